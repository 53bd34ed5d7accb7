"""What a fleet's inspections leave behind: which images are known, camera by camera and night by night.

<fleet>/ledger/entries/date=…/<digest>.parquet   a row per version of an image, see records.ENTRIES
<fleet>/ledger/nights/<number>.parquet           a row per camera and run, see records.NIGHTS
<fleet>/ledger/runs/<number>.json                a run, created once and last, see records.FleetRun
"""
