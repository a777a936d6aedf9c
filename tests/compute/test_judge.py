"""The judge: against a real server with a model that was overfitted on rulings, and against one that fails on purpose."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.errors import CouldNotRun
from emt_plugin.models import judge_client
from emt_plugin.models.judge_client import JudgeClient
from emt_plugin.scoring import JudgeScorer, Observation, ScorerContext
from emt_plugin.scoring.judge_address import JudgeAddress
from emt_plugin.scoring.ruling import SETTINGS, question_to_judge, read_ruling
from emt_plugin.store import Store
from tests.judges import RULINGS, Answer, answered, completion, refusal, save_judge, served

KEY = "sk-very-secret-0123456789"
ASKED = ("dog", "The object is a dog.")


def client(url: str, folder: Path, mode: Any = "off", **address: Any) -> JudgeClient:
    return JudgeClient(JudgeAddress(url, address.pop("model", "judge"), KEY, **address), Store(folder / "store", mode))


def test_the_papers_question_word_for_word() -> None:
    assert question_to_judge("aquarium fish", "a fish") == (
        'Please only answer the question in yes or no. Is the "Prediction" correctly predicting the right "Label"? '
        "Label: aquarium_fish; Prediction: a fish."
    )
    assert dict(SETTINGS) == {
        "temperature": 0.2,
        "max_tokens": 64,
        "top_p": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("**No**, it is a cat.", "no"),
        ("No", "no"),
        ("", "unparseable"),
        ("Yes and no.", "unparseable"),
        ("The answer is yes.", "unparseable"),
        ("Maybe", "unparseable"),
        ("not really", "unparseable"),
        ("nope", "unparseable"),
        ("42", "unparseable"),
    ],
)
def test_how_a_ruling_is_read(text: str, says: str) -> None:
    assert read_ruling(text).says == says


@pytest.mark.thorough
def test_a_real_server(tmp_path: Path) -> None:
    folder = save_judge(tmp_path / "judge")
    with served(folder, tmp_path / "log") as url:
        asked = client(url, tmp_path, "use", model=str(folder), concurrency=4)
        rulings = asked.ask([*RULINGS, *RULINGS])
        assert [ruling.text for ruling in rulings] == [*RULINGS.values(), *RULINGS.values()]
        assert "settings not taken" not in asked.facts()
    # The server is gone, and every ruling is kept.
    again = client(url, tmp_path, "use", model=str(folder)).ask(list(RULINGS))
    assert [ruling.says for ruling in again] == ["yes", "no", "no", "yes", "no", "unparseable"]


def test_what_is_sent_is_the_papers(tmp_path: Path) -> None:
    with answered(lambda body, _: completion("yes")) as (url, seen):
        client(url, tmp_path).ask([ASKED])
    (request,) = seen
    assert request["messages"] == [{"role": "user", "content": question_to_judge(*ASKED)}]
    assert {name: request[name] for name in SETTINGS} == dict(SETTINGS)
    assert request["model"] == "judge"
    assert request["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_again(tmp_path: Path, status: int) -> None:
    def flaky(_: Any, position: int) -> Answer:
        return refusal(status, "busy") if position < 2 else completion("No.")

    with answered(flaky) as (url, seen):
        (ruling,) = client(url, tmp_path).ask([ASKED])
    assert ruling.says == "no"
    assert len(seen) == 3


def test_time_outs_are_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_client, "TIMEOUT_SECONDS", 0.5)
    late = threading.Event()

    def slow(_: Any, position: int) -> Answer:
        if position == 0:
            late.wait(3)
        return completion("yes")

    with answered(slow) as (url, seen):
        (ruling,) = client(url, tmp_path).ask([ASKED])
        late.set()
    assert ruling.says == "yes"
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refusal(500, "down"), "answers 500 after 2 tries"),
        (refusal(401, f"Incorrect API key provided: {KEY}"), "refuses the key; set EMT_JUDGE_API_KEY"),
        (refusal(404, "no such model"), "has no model 'judge'; set EMT_JUDGE_MODEL"),
        (refusal(400, f"go away, {KEY}"), r"refuses the question \(.*go away, \*\*\*"),
    ],
)
def test_what_does_not_pass_is_one_sentence_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, says: str
) -> None:
    monkeypatch.setattr(judge_client, "TRIES", 1)
    with answered(lambda *_: answer) as (url, _), pytest.raises(CouldNotRun, match=says) as caught:
        client(url, tmp_path).ask([ASKED])
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_client, "TRIES", 1)
    with answered(lambda *_: completion("yes")) as (url, _):
        pass
    with pytest.raises(CouldNotRun, match="cannot be reached after 2 tries"):
        client(url, tmp_path).ask([ASKED])


def test_settings_that_are_not_taken_are_left_out_and_recorded(tmp_path: Path) -> None:
    def strict(body: dict[str, Any], _: int) -> Answer:
        if "max_tokens" in body:
            return refusal(400, "Unsupported parameter: 'max_tokens'. Use another one.")
        if "temperature" in body:
            return refusal(422, "temperature must be 1 for this model")
        return completion("yes")

    with answered(strict) as (url, seen):
        asked = client(url, tmp_path, "use", concurrency=1)
        rulings = asked.ask([ASKED, ("cat", "a cat")])
    assert [ruling.says for ruling in rulings] == ["yes", "yes"]
    assert set(asked.facts()["settings not taken"]) == {"max_tokens", "temperature"}
    assert "must be 1" in asked.facts()["settings not taken"]["temperature"]
    assert asked.facts()["settings"]["max_completion_tokens"] == 64
    # Each was tried once; the second question was asked without them.
    assert len(seen) == 4
    # A run from the store says the same of the judge.
    assert client(url, tmp_path, "use").facts() == asked.facts()


def test_the_pool_is_bounded(tmp_path: Path) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def counted(_: Any, position: int) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.05)
        with lock:
            under_way -= 1
        return completion("yes")

    with answered(counted) as (url, seen):
        client(url, tmp_path, concurrency=3).ask([("dog", f"answer {number}") for number in range(20)])
    assert len(seen) == 20
    assert 1 < most <= 3


def test_rulings_before_a_failure_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_client, "TRIES", 0)

    def breaks(_: Any, position: int) -> Answer:
        return completion("yes") if position < 3 else refusal(500, "down")

    questions = [("dog", f"answer {number}") for number in range(6)]
    with answered(breaks) as (url, _), pytest.raises(CouldNotRun):
        client(url, tmp_path, "use", concurrency=1).ask(questions)
    # The server is gone.
    assert [ruling.says for ruling in client(url, tmp_path, "use").ask(questions[:3])] == ["yes"] * 3


@pytest.mark.parametrize("content", [None, ""])
def test_no_text_is_unparseable_and_asked_again_the_next_time(tmp_path: Path, content: str | None) -> None:
    with answered(lambda _, position: completion(content if position == 0 else "yes")) as (url, seen):
        (ruling,) = client(url, tmp_path, "use").ask([ASKED])
        assert ruling.says == "unparseable"
        (ruling,) = client(url, tmp_path, "use").ask([ASKED])
        assert ruling.says == "yes"
    assert len(seen) == 2


@pytest.mark.parametrize(
    "body", [{"error": {"message": "overloaded"}}, {"id": "x", "choices": []}, "<html>hello</html>", ["no"]]
)
def test_what_is_no_completion_is_no_ruling(tmp_path: Path, body: Any) -> None:
    with answered(lambda *_: (200, body)) as (url, _), pytest.raises(CouldNotRun, match="gives no chat completion"):
        client(url, tmp_path, "use").ask([ASKED])
    assert not list((tmp_path / "store").rglob("*.jsonl"))


def test_rulings_of_one_endpoint_are_not_anothers(tmp_path: Path) -> None:
    with answered(lambda *_: completion("yes")) as (url, seen):
        client(url, tmp_path, "use").ask([ASKED])
        client(url.replace("/v1", "/other/v1"), tmp_path, "use").ask([ASKED])
    assert len(seen) == 2


def test_the_scorer_keeps_unparseable_apart_and_asks_once_for_equal_answers(tmp_path: Path) -> None:
    def says(body: dict[str, Any], _: int) -> Answer:
        text = body["messages"][0]["content"]
        return completion("Yes." if "a dog" in text else "Hm." if "a frog" in text else "No.")

    with answered(says) as (url, seen):
        scorer = JudgeScorer(ScorerContext(("cat", "dog"), judge=client(url, tmp_path)))
        answers = ["a dog", "a dog", "a cow", "a frog"]
        scorer.prepare([Observation(answer=answer) for answer in answers], [1, 1, 1, 1])
        scores = [scorer.score(Observation(answer=answer), 1, ("cat", "dog")) for answer in answers]
    assert [score.correct for score in scores] == [True, True, False, None]
    assert [score.kind for score in scores] == [None, None, None, "unparseable ruling"]
    assert [score.detail for score in scores] == ["Yes.", "Yes.", "No.", "Hm."]
    assert all(score.prediction is None for score in scores)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "set EMT_JUDGE_BASE_URL and EMT_JUDGE_MODEL"),
        ({"EMT_JUDGE_BASE_URL": "http://x", "EMT_JUDGE_CONCURRENCY": "many"}, "EMT_JUDGE_CONCURRENCY is 'many'"),
        ({"EMT_JUDGE_BASE_URL": "localhost:8000"}, "is no address of an endpoint"),
        ({"EMT_JUDGE_BASE_URL": "http://host:99x/v1"}, "is no address of an endpoint"),
    ],
)
def test_what_the_environment_lacks(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        JudgeAddress.of_environment(environment)


def test_the_environment() -> None:
    address = JudgeAddress.of_environment({"EMT_JUDGE_BASE_URL": "https://user:pass@host:81/v1", "EMT_JUDGE_API_KEY": KEY})
    assert (address.model, address.key, address.place) == ("gpt-3.5-turbo", KEY, "https://host:81/v1")
    assert KEY not in repr(address)
    assert "pass" not in repr(address)
    assert JudgeAddress.of_environment({"OPENAI_API_KEY": KEY}).place == "https://api.openai.com/v1"
