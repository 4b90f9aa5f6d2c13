"""Analyses and charts composed for readers: a model of what a report says, and every format written from it.

``model``       what a report says
``period``      which time it is about
``exhibits``    what is asked, drawn, told and said, section by section
``sentences``   what each chart shows, in words
``figures``     key figures and scorecard
``changes``     what is not as it was
``building``    all of it together
``cells``       how values are said, once for all formats
``drawing``     charts as SVG and pictures
``page``        HTML; ``markdown``, ``mail``, ``summary``: the other formats
``formats``     the files of a report
``index``       the list of all reports
``publishing``  folders, lock, retention
``gates``       when to stop who asked
``nightly``     from sources to a published report
"""
