from __future__ import annotations

from dataclasses import replace

from raysvq.decisions import Promise
from raysvq.evaluation.result import Outcome
from raysvq.report.evaluation.verdict import verdict
from tests.report.evaluations import evaluation, record, records

PROMISE = Promise("max_false_alarm_rate", 0.01, 0.05, None, 19, 99, 0.001, 0.18, "19 cannot promise 1 %.")


def test_the_headline_counts_what_was_found_and_what_was_flagged_by_mistake() -> None:
    images = [record("a", 4.0, True), record("b", 2.0, True), record("c", 4.0), record("d", 1.0)]
    assert (
        verdict(evaluation(images)).headline
        == "1 of 2 defective images found, 1 false alarm among 2 good ones"
    )
    assert "no defective image" in verdict(evaluation(images[2:])).headline
    assert "no good image" in verdict(evaluation(images[:2])).headline
    assert "nothing to measure" in verdict(evaluation([])).headline


def test_a_broken_promise_is_named_and_says_what_to_do() -> None:
    found = evaluation(records(100, 30))
    kept = verdict(found)
    assert (kept.badge, kept.tone) == ("Promise kept", "good")
    assert "The promise held." in kept.sentences
    broken = verdict(
        replace(found, outcome=Outcome("broken", 100, 40, 0, 5, None, "40, where 5 are allowed."))
    )
    assert (broken.badge, broken.tone) == ("Promise broken", "bad")
    assert any("raysvq calibrate" in step for step in broken.steps)
    assert not any("raysvq calibrate" in step for step in kept.steps)
    assert verdict(replace(found, outcome=None)).tone == "open"


def test_more_false_alarms_than_promised_are_said_even_where_chance_allows_them() -> None:
    found = replace(evaluation(records(100, 30)), promise=PROMISE)
    assert found.outcome is not None
    many = verdict(replace(found, outcome=replace(found.outcome, judgement="above")))
    assert (many.badge, many.tone) == ("Worse than promised, perhaps by chance", "open")
    assert any("More good images are flagged than was promised" in step for step in many.steps)


def test_without_a_promised_rate_no_promise_is_called_kept() -> None:
    images = [record(f"n{place}", 9.0) for place in range(30)]
    images += [record(f"d{place}", 9.0, True) for place in range(30)]
    found = evaluation(images)
    assert found.outcome is not None
    for outcome in (None, replace(found.outcome, judgement="none", high=30)):
        said = verdict(replace(found, outcome=outcome))
        assert said.tone == "open"
        assert "kept" not in said.badge
        assert said.steps == (
            "No rate of false alarms was promised: decide whether 30 among 30 good ones are acceptable."
            " `decision.policy` can set a rate.",
        )
    many = verdict(replace(found, outcome=replace(found.outcome, judgement="none", high=3)))
    assert (many.badge, many.tone) == ("More false alarms than expected", "bad")
    assert "Look at the false alarms below" in many.steps[0]


def test_a_kept_recall_does_not_call_false_alarms_fine() -> None:
    images = [record(f"n{place}", 9.0) for place in range(30)]
    images += [record(f"d{place}", 9.0, True) for place in range(30)]
    recall = replace(PROMISE, policy="min_recall", asked=0.9, promised=0.9)
    found = evaluation(images, promise=recall)
    assert found.outcome is not None
    [step] = verdict(replace(found, outcome=replace(found.outcome, high=30))).steps
    assert "decide whether 30 among 30" in step


def test_without_good_images_they_are_asked_for_before_anything_is_promoted() -> None:
    steps = verdict(evaluation([record(f"d{place}", 9.0, True) for place in range(30)], outcome=None)).steps
    assert steps == ("Collect good test images: there is none to know the share that is flagged.",)


def test_one_missed_of_many_is_not_said_to_be_all() -> None:
    images = [record(f"d{place}", 9.0, True) for place in range(299)] + [record("m", 1.0, True)]
    said = " ".join(verdict(evaluation(images)).sentences)
    assert "It found 99.7\u00a0%" in said


def test_defects_without_a_type_and_with_an_endless_one_make_sentences() -> None:
    images = [record(f"d{place}", 1.0, True, defect_type=None) for place in range(30)]
    plain = evaluation(images)
    unnamed = replace(plain, slices={"defect_type": {"unnamed": plain.overall}})
    said = verdict(unnamed)
    assert not any("unnamed" in text for text in (*said.sentences, *said.steps))
    assert any("Label other images with such defects as outliers" in step for step in said.steps)
    endless = [record(f"d{place}", 1.0, True, defect_type="x" * 10_000) for place in range(30)]
    long = verdict(evaluation(endless))
    assert max(map(len, (*long.sentences, *long.steps))) < 400


def test_the_types_that_are_missed_most_are_named_first_and_asked_labels_of() -> None:
    images = [record(f"n{place}", 1.0) for place in range(30)]
    images += [record(f"s{place}", 4.0, True, defect_type="scratch") for place in range(18)]
    images += [record("s", 2.0, True, defect_type="scratch")]
    images += [record(f"p{place}", 2.0, True, defect_type="pit") for place in range(3)]
    said = verdict(evaluation(images))
    assert any("Missed: pit (3 of 3), scratch (1 of 19)." in sentence for sentence in said.sentences)
    [label] = [step for step in said.steps if "outliers" in step]
    assert "pit" in label
    assert "scratch" not in label


def test_too_few_images_are_asked_for() -> None:
    steps = verdict(replace(evaluation(records(50, 5)), promise=PROMISE)).steps
    assert any("needs 99" in step for step in steps)
    assert any("5 are too few" in step for step in steps)
    enough = verdict(replace(evaluation(records(50, 50)), promise=replace(PROMISE, promised=0.01))).steps
    assert not any("Collect" in step for step in enough)


def test_where_nothing_is_wrong_the_next_step_is_to_promote() -> None:
    images = [record(f"n{place}", 1.0) for place in range(30)]
    images += [record(f"d{place}", 9.0, True) for place in range(30)]
    [step] = verdict(evaluation(images)).steps
    assert "raysvq promote" in step
