"""What the words of a report mean; the analyses' docstrings say it in full, with sources."""

DEFINITIONS = (
    (
        "Queue latency",
        "The time from when a run could first start to its first start: processedOn − timestamp − delay, with the "
        "delay the run was created with. BullMQ sets the exported delay to 0 when a scheduled job becomes due, so "
        "the due time is recovered from the job's id, its schedule, or earlier records. Waits not known exactly "
        "are left out and counted.",
    ),
    (
        "Retried",
        "An ended run that took more than one attempt. Stalls restart a run without counting an attempt, so this "
        "is a lower bound.",
    ),
    (
        "Failed",
        "An ended run whose last attempt failed. On an unmodified server a job only hands a sync event on: "
        "completed means handed on, and errors of the crawl itself happen later and elsewhere.",
    ),
    (
        "End not seen",
        "A run that started and of which no record shows an end. Some of them have ended unseen: complete lists "
        "leave them out since. How they ended is not known; they are never counted as completed.",
    ),
    (
        "Bounds",
        "Where ends were not seen, a rate lies between what is known to have failed and what may have. An "
        "interval beside a rate is another thing: the play of chance.",
    ),
    (
        "Interval",
        "Of a share Wilson's 95 % confidence interval; of a quantile the waits at the ends of that interval of "
        "its share. Both take runs for independent of each other; runs that fail together make them wider than "
        "shown.",
    ),
    (
        "Worse and better",
        "Against the window before: surely so, though runs of one connector or hour fail together (q-value at "
        "most 0.05). Against the report before: intervals that do not overlap, and at least one percentage point "
        "or a tenth.",
    ),
    (
        "Cause",
        "The one thing to fix behind the last error of a run, named by rules, whatever library said it. Where no "
        "rule knows it, the error itself, with secrets, personal data and what differs from run to run replaced. "
        "New is what was never seen before in all of the data.",
    ),
    (
        "On time, late, missed",
        "An expected fire of a schedule is on time if its run started within a minute. Missed means that no run "
        "was made for it, concluded from the runs before and after, never from a run not being there.",
    ),
    (
        "Stale",
        "A connector whose last known success is older than two periods of its schedule, or that has no known success "
        "and failed twice or more; one that failed once is said to have failed so far. Where a success may have gone "
        "unseen it is unknown, not stale. An objective of freshness counts every connector that never succeeded as "
        "bad, once it has failed.",
    ),
    (
        "Stuck",
        "A run that lost its worker, that is active for far longer than runs of its connector take, or that waits "
        "for longer than its schedule's period.",
    ),
    (
        "Driver",
        "A value that surely is more frequent among failed runs than among all others, with all values that were "
        "looked at and bursts of failures allowed for (q-value at most 0.05). Unclear: it may be chance. Few: seen in "
        "one stretch of time only.",
    ),
    (
        "Objective",
        "The share that should be good. The error budget is what may be bad; the burn rate is how many times as "
        "fast as allowed it is being spent.",
    ),
)
"""Terms and their meanings, in the order in which a report uses them."""
