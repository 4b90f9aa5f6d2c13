import polars as pl
import pytest

from jobstats.errors import ArgumentError
from jobstats.reasons import CATEGORIES, STAGES, classify, explain, misfits, ruleset

RULES = ruleset()
PLANE = """
[[cause]]
id = "plane"
pattern = 'plane \\S+ is late'
cause = "Plane is late"
category = "timeout"
examples = ["Plane LH-441 is late"]
"""


@pytest.fixture
def own(tmp_path):
    def write(text: str):
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return path

    return write


def answer(text, rules=None):
    return classify(pl.Series([text]), rules=rules).row(0, named=True)


def test_every_shipped_rule_acts_on_its_examples():
    rules = [rule for _, rule in RULES.named()]
    assert not [rule.id for rule in rules if not rule.examples]
    assert not misfits(RULES, [rule.id for rule in rules])


def test_shipped_ids_are_unique_and_stages_whole():
    ids = [rule.id for _, rule in RULES.named()]
    assert len(set(ids)) == len(ids)
    assert all(RULES.stage(name) for name in STAGES)
    assert {rule.category for rule in (*RULES.cause, *RULES.category) if rule.category} == set(CATEGORIES)


def test_own_rules_are_added_replaced_and_taken_away(own):
    assert answer("Plane LH-441 is late")["cause"] == "Plane LH-<n> is late"
    added = answer("Plane LH-441 is late", own(PLANE))
    assert (added["cause"], added["category"], added["rule_id"]) == ("Plane is late", "timeout", "plane")
    assert added["cause_id"].startswith("c_")
    replaced = own(
        '[[cause]]\nid = "bull-stalled"\npattern = "job stalled"\ncause = "Worker froze"\ncategory = "timeout"'
    )
    assert answer("job stalled more than allowable limit", replaced)["cause"] == "Worker froze"
    gone = answer("read ECONNRESET", own('[[cause]]\nid = "connection-reset"\nenabled = false'))
    assert (gone["cause"], gone["cause_id"]) == ("read ECONNRESET", gone["template_id"])


def test_own_rules_come_first_unless_they_say_where(own):
    rule = '[[cause]]\nid = "mine"\npattern = "status code 50"\ncause = "Mine"\n'
    assert answer("Request failed with status code 503", own(rule))["cause"] == "Mine"
    assert answer("Request failed with status code 503", own(f'{rule}after = "http-status"'))["cause"] == "HTTP 503"
    assert answer("Request failed with status code 503", own(f'{rule}before = "http-status"'))["cause"] == "Mine"


def test_own_secrets_are_redacted(own):
    rules = own('[[secret]]\nid = "badge"\npattern = \'badge [a-z]+\'\nreplace = "badge <secret>"')
    assert answer("no such badge blueberry", rules)["template"] == "no such badge <secret>"


def test_pins_beat_every_rule(own):
    template_id = answer("read ECONNRESET")["template_id"]
    pinned = answer("read ECONNRESET", own(f'[[pin]]\ntemplate_id = "{template_id}"\ncause = "Old firewall"'))
    assert (pinned["cause"], pinned["category"], pinned["rule_id"]) == ("Old firewall", "network", "pin-1")
    fitted = own('[[pin]]\npattern = "econn"\ncategory = "configuration"')
    assert answer("read ECONNRESET", fitted)["category"] == "configuration"
    assert explain("read ECONNRESET", rules=fitted).rows()[-1] == ("category", "pin-1", "configuration")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[cause]]\nid = "x"\npattern = "(?=a)"\ncause = "y"', "cause: rule 'x': bad pattern: .*look-around"),
        ('[[mask]]\nid = "x"\npattern = "(a"\nreplace = ""', "mask: rule 'x': bad pattern: .*unclosed group"),
        ('[[cause]]\nid = "x"\npattern = "a"', "cause: rule 'x': cause: Field required"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\ncategory = "weather"', "rule 'x': category: Input should be"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\nspeed = 3', "rule 'x': speed: Extra inputs are not permitted"),
        ('[[cause]]\nid = "X y"\npattern = "a"\ncause = "b"', "rule 'X y': id: String should match"),
        ('[[cause]]\npattern = "a"\ncause = "b"', "cause: number 1, which has no id: id: Field required"),
        ('[[cause]]\nid = "url"\npattern = "a"\ncause = "b"', "cause: rule 'url': another rule has this id"),
        ('[[cause]]\nid = "x"\nenabled = false', "rule 'x' is to be taken away, and there is none of this id"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\nbefore = "nowhere"', "beside 'nowhere', which is no other rule"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\nexamples = ["zzz"]', "rule 'x' does not act on its example 'zzz'"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\ncounter_examples = ["a"]', "acts on its counter-example 'a'"),
        ('[[weather]]\nid = "x"', "no stage is called 'weather'; there are clean, secret"),
        ("cause = 3", "cause is not a list of tables"),
        ("[[pin]]\ncause = 'x'", "pin: number 1: needs either template_id or pattern"),
        ("[[pin]]\npattern = '(('\ncause = 'x'", "pin: number 1: bad pattern"),
        ("x = [", "not TOML"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b"\n[[cause]]\nid = "x"\npattern = "c"\ncause = "d"', "rule 'x' is there twice"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = "b ${1}"', "rule 'x': uses the group \\$1, and its pattern has 0"),
        ('[[mask]]\nid = "x"\npattern = "(a)"\nreplace = "$2"', "rule 'x': uses the group \\$2, and its pattern has 1"),
        ('[[mask]]\nid = "x"\npattern = "a*"\nreplace = "b"', "rule 'x': bad pattern: it fits the empty text"),
        ('[[cause]]\nid = "x"\npattern = "a"\ncause = " "', "rule 'x': cause: String should match pattern"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_reported_with_its_id(own, text, named):
    with pytest.raises(ArgumentError, match=named):
        ruleset(own(text))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ArgumentError, match=r"rules nowhere\.toml: cannot read: No such file"):
        ruleset("nowhere.toml")


def test_the_sha_tells_what_rules_do_and_not_how_they_are_tested(own):
    assert ruleset().sha == RULES.sha
    assert ruleset(own(PLANE)).sha != RULES.sha
    plain = ruleset(own(PLANE.replace('examples = ["Plane LH-441 is late"]', "")))
    assert plain.sha == ruleset(own(PLANE)).sha


def test_patterns_of_causes_fit_in_any_case_and_script(own):
    rules = own('[[cause]]\nid = "late"\npattern = \'Über(?:fällig|zogen) (\\w+)\'\ncause = "Overdue: ${1}"\n')
    assert answer("ÜBERFÄLLIG Rent", rules)["cause"] == "Overdue: Rent"


def test_a_cause_is_never_empty_or_endless(own):
    rules = own(
        '[[cause]]\nid = "x"\npattern = "^hello(?: (there))?"\ncause = "${1}"\n[[cause]]\nid = "y"\npattern = "^long(.*)"\ncause = "X${1}"'
    )
    assert answer("hello you", rules)["cause"] == "hello you"
    assert len(answer("long " + "word " * 400, rules)["cause"]) == 120


def test_rules_are_a_file_or_a_set():
    with pytest.raises(ArgumentError, match="rules are a file or a set, found int"):
        ruleset(3)
    with pytest.raises(ArgumentError, match="expected texts, found"):
        classify([3])
