"""How answers are read that reason, deny, doubt, decline or are in another language; and the documented cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.catalog import Catalog
from emt_plugin.scoring import AnswerScorer, Observation, Reader, ScorerContext
from emt_plugin.scoring.reader import unreadable
from emt_plugin.scoring.reasoning import is_reasoning_mark

CASES = [line.split("\t") for line in (Path(__file__).parent / "reader.tsv").read_text(encoding="utf-8").splitlines()[1:]]
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reading.md"


def read(labels: str, answer: str) -> str:
    names = labels.split("|")
    prediction = Reader(names).read(answer.replace("\\n", "\n")).prediction
    return "-" if prediction is None else names[prediction]


@pytest.mark.parametrize(("labels", "answer", "expected", "why"), CASES, ids=[f"{case[1][:30]}" for case in CASES])
def test_the_documented_cases(labels: str, answer: str, expected: str, why: str) -> None:
    assert read(labels, answer) == expected, why


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<thinking>dog, dog, dog</thinking>cat", "cat"),
        ("<THINK>\nA dog?\n</THINK>\n\nCat.", "cat"),
        ("<reasoning>It barks: a dog.</reasoning> The answer is cat", "cat"),
        ("◁think▷dog◁/think▷cat", "cat"),
        ("[THINK]It is a dog.[/THINK]It is a cat.", "cat"),
        ("<|begin_of_thought|> a dog <|end_of_thought|> <|begin_of_solution|> cat <|end_of_solution|>", "cat"),
        ("<seed:think>a dog</seed:think>cat", "cat"),
        ('<thought level="2">dog</thought>cat', "cat"),
        ("<|channel|>analysis<|message|>a dog<|end|><|start|>assistant<|channel|>final<|message|>a cat", "cat"),
        ("It must be a dog, no, wait.\n</think>\ncat", "cat"),
        ("<think>a dog</think><think>a dog again</think>a cat", "cat"),
        ("<think>dog</think><answer>cat</answer>", "cat"),
        ("It has ears like a dog. <answer>cat</answer>", "cat"),
        ("The final answer is \\boxed{cat}.", "cat"),
        ("<think>I see a cat", "-"),
        ("<think>cat</think>", "-"),
        ("<think>cat</think>\n<think>and so a cat", "-"),
        ("[think] cat", "-"),
        ("cat <think>but is it a dog", "cat"),
    ],
)
def test_reasoning_is_no_answer(answer: str, expected: str) -> None:
    assert read("cat|dog", answer) == expected


def test_reasoning_that_never_ends_is_told() -> None:
    reading = Reader(["cat", "dog"]).read("<think>Well, a cat")
    assert reading.unfinished
    assert not reading.empty


@pytest.mark.parametrize("token", ["<think>", "</think>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷", "<|begin_of_thought|>"])
def test_marks_that_decoding_must_keep(token: str) -> None:
    assert is_reasoning_mark(token)
    assert not any(map(is_reasoning_mark, ("<s>", "</s>", "<|im_end|>", "<image>", "cat", "<pad>", "[INST]")))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It's not a dog; it's a cat.", "cat"),
        ("This is not a dog but a cat.", "cat"),
        ("A cat, not a dog.", "cat"),
        ("a cat rather than a dog", "cat"),
        ("a cat instead of a dog", "cat"),
        ("Neither a cat nor a dog.", "-"),
        ("Neither a cat, a bird nor a dog.", "-"),
        ("There is no cat, bird or dog.", "-"),
        ("There are no cats in the image.", "-"),
        ("There is no cat, dog or lynx.", "-"),
        ("There is no cat, no dog and no lynx.", "-"),
        ("It is not a dog, it is a cat or something like it.", "cat"),
        ("There isn't a cat in this picture.", "-"),
        ("I don't see a cat.", "-"),
        ("I do not think this is a cat.", "-"),
        ("This can't be a cat.", "-"),
        ("A cat is not visible.", "-"),
        ("The cat isn't in the picture.", "-"),
        ("A cat? No.", "-"),
        ("A cat? No, a dog.", "dog"),
        ("Is it a cat? Yes.", "cat"),
        ("Is this a dog? Yes, it is.", "dog"),
        ("Is this a dog? No, it is a cat.", "cat"),
        ("Is this a cat?", "-"),
        ("Cat. No, it is not.", "-"),
        ("It is anything but a cat.", "-"),
        ("It is nothing but a cat.", "cat"),
        ("It is none other than a cat.", "cat"),
        ("Without a doubt, a cat.", "cat"),
        ("No doubt it is a cat", "cat"),
        ("It is not just a cat", "cat"),
        ("a cat with no collar", "cat"),
        ("a cat without a tail", "cat"),
        ("a cat that is not sleeping", "cat"),
        ("A cat which does not look at us.", "cat"),
        ("The cat is not sleeping.", "cat"),
        ("Unlike a dog, this cat sleeps.", "cat"),
        ("The image lacks a cat.", "-"),
        ("Other than a cat, nothing fits.", "-"),
        ("It is no longer a cat.", "-"),
        ("Maybe a cat.", "-"),
        ("A cat, perhaps.", "-"),
        ("It might be a cat.", "-"),
        ("It could be a cat.", "-"),
        ("This may or may not be a cat.", "-"),
        ("I am not sure if this is a cat.", "-"),
        ("I'm unsure whether it's a cat.", "-"),
        ("It is hard to tell whether it is a cat", "-"),
        ("It is difficult to determine if a cat is there", "-"),
        ("It looks like a cat.", "cat"),
        ("It appears to be a cat.", "cat"),
        ("Probably a cat.", "cat"),
        ("I think it is a cat.", "cat"),
        ("It seems to be a cat", "cat"),
        ("Most likely a cat.", "cat"),
        ("I'm sorry, but I can't identify the cat.", "-"),
        ("Sorry, it is a cat.", "cat"),
        ("I can't see it well. It is a cat.", "cat"),
        ("I cannot assist with that.", "-"),
        ("I cannot tell the breed, but it is a cat.", "cat"),
        ("Although the picture is unclear, this is a cat.", "cat"),
        ("a wonderful cat", "cat"),
        ("It's a cat, isn't it?", "cat"),
        ("Perhaps, a cat.", "-"),
        ("The image does not contain a cat.", "-"),
        ("cat\n\nExplanation: it has whiskers, so it is not a dog.", "cat"),
        ("It can't be determined whether it's a cat or a dog.", "-"),
        ("If I had to guess, a cat", "cat"),
        ("Not sure, but probably a cat", "cat"),
        ("a cat sitting on a couch without a dog", "cat"),
        ("Cat: no. Dog: yes.", "dog"),
        ("There's a cat but no dog", "cat"),
        ("Neither cat nor dog, but a bird", "bird"),
        ("The picture is a bit blurry. A cat.", "cat"),
    ],
)
def test_clauses_decide(answer: str, expected: str) -> None:
    assert read("cat|dog|bird", answer) == expected


@pytest.mark.parametrize(
    ("labels", "answer", "expected"),
    [
        # German
        ("Katze|Hund", "Das ist eine Katze.", "Katze"),
        ("Katze|Hund", "Das ist keine Katze.", "-"),
        ("Katze|Hund", "Es ist kein Hund, sondern eine Katze.", "Katze"),
        ("Katze|Hund", "Es ist unklar, ob das eine Katze ist.", "-"),
        ("Katze|Hund", "Vielleicht eine Katze.", "-"),
        ("Katze|Hund", "Weder ein Hund noch eine Katze.", "-"),
        ("Katze|Hund", "Eine Katze ist nicht zu sehen.", "-"),
        ("Katze|Hund", "Ein Sofa ohne Katze", "-"),
        ("Katze|Hund", "Ohne Zweifel eine Katze.", "Katze"),
        ("Katze|Hund", "Ist das ein Hund? Nein, eine Katze.", "Katze"),
        ("Katze|Hund", "Leider kann ich nicht sagen, ob das ein Hund ist.", "-"),
        ("Straße|Fluss", "STRASSE", "Straße"),
        # French
        ("chat|chien", "Ce n'est pas un chat.", "-"),
        ("chat|chien", "Ce n’est pas un chien, c’est un chat.", "chat"),
        ("chat|chien", "Ce n'est pas un chien mais un chat.", "chat"),
        ("chat|chien", "Je ne sais pas si c'est un chat.", "-"),
        ("chat|chien", "Peut-être un chat.", "-"),
        ("chat|chien", "Un canapé sans chat", "-"),
        ("chat|chien", "C'est un chat.", "chat"),
        ("avion|oiseau", "C’est l’avion", "avion"),
        ("étoile|lune", "une etoile", "étoile"),
        ("arbre|herbe", "d'arbre", "arbre"),
        # Spanish, Portuguese, Italian
        ("gato|perro", "No es un gato.", "-"),
        ("gato|perro", "No es un perro, sino un gato.", "gato"),
        ("gato|perro", "No sé si es un gato.", "-"),
        ("gato|perro", "Sí, es un gato.", "gato"),
        ("gato|perro", "¿Es un gato? No.", "-"),
        ("gato|perro", "¿Es un gato? Sí.", "gato"),
        ("gato|perro", "Se trata de un gato.", "gato"),
        ("gato|perro", "Quizás sea un gato.", "-"),
        ("gato|cachorro", "Não é um gato.", "-"),
        ("gato|cachorro", "Não é um cachorro, é um gato.", "gato"),
        ("gato|cachorro", "Talvez um gato.", "-"),
        ("gatto|cane", "Non è un gatto.", "-"),
        ("gatto|cane", "Non è un cane ma un gatto.", "gatto"),
        ("gatto|cane", "Forse un gatto", "-"),
        ("albero|erba", "È l'albero", "albero"),
        ("albero|erba", "un'erba", "erba"),
        # Dutch, Swedish, Polish, Russian, Turkish
        ("kat|hond", "Het is geen kat.", "-"),
        ("kat|hond", "Het is geen hond, maar een kat.", "kat"),
        ("katt|hund", "Det är inte en hund utan en katt.", "katt"),
        ("katt|hund", "Det är inte en katt.", "-"),
        ("kot|pies", "To nie jest kot.", "-"),
        ("kot|pies", "To nie pies, tylko kot.", "kot"),
        ("кошка|собака", "Это не кошка.", "-"),
        ("кошка|собака", "Это не собака, а кошка.", "кошка"),
        ("кошка|собака", "Это кошка.", "кошка"),
        ("кошка|собака", "Неясно, кошка ли это.", "-"),
        ("ёлка|куст", "елка", "ёлка"),
        ("кошка|собака", "Возможно, кошка", "-"),
        ("kedi|köpek", "Bu bir kedi değil.", "-"),
        ("kedi|köpek", "Köpek değil, kedi.", "kedi"),
        ("kedi|köpek", "Bu bir kedidir.", "kedi"),
        ("ırmak|inek", "IRMAK", "ırmak"),
        ("ırmak|inek", "İNEK", "inek"),
        ("kır|kir", "KIR", "kır"),
        ("kır|kir", "KİR", "kir"),
        # Chinese, Japanese, Korean
        ("猫|狗", "这不是猫。", "-"),
        ("猫|狗", "这不是狗，是猫。", "猫"),
        ("猫|狗", "不是狗而是猫", "猫"),
        ("猫|狗", "图中没有猫。", "-"),
        ("猫|狗", "可能是猫", "-"),
        ("猫|狗", "无法确定是不是猫", "-"),
        ("猫|狗", "这是猫吗？不是。", "-"),
        ("猫|狗", "这是猫吗？是的。", "猫"),
        ("猫|狗", "一只黑猫", "猫"),
        ("猫|狗", "图片中的物体是一只狗。", "狗"),
        ("猫|狗", "猫头鹰", "-"),
        ("狗|车", "热狗", "-"),
        ("飞机|汽车", "这是一架飞机。", "飞机"),
        ("猫|犬", "これは猫です。", "猫"),
        ("猫|犬", "これは猫ではありません。", "-"),
        ("猫|犬", "犬ではなく猫です。", "猫"),
        ("猫|犬", "猫じゃない", "-"),
        ("猫|犬", "猫かもしれません", "-"),
        ("猫|犬", "猫かどうか分かりません", "-"),
        ("猫|犬", "猫ですか。いいえ。", "-"),
        ("ねこ|いぬ", "これはねこです", "ねこ"),
        ("バス|車", "バスケット", "-"),
        ("バス|車", "バスです", "バス"),
        ("고양이|개", "이것은 고양이가 아닙니다.", "-"),
        ("고양이|개", "개가 아니라 고양이입니다.", "고양이"),
        ("고양이|개", "고양이를 볼 수 있습니다.", "고양이"),
        ("고양이|개", "고양이일 수 있습니다.", "-"),
        ("고양이|개", "개", "개"),
        ("고양이|개", "개미", "-"),
        ("고양이|개", "이것은 고양이입니까? 아니요.", "-"),
        ("고양이|개", "이것은 고양이입니까? 네.", "고양이"),
        ("고양이|개", "고양이인지 모르겠습니다.", "-"),
        # Arabic, Hebrew, Hindi, Thai, Vietnamese, Indonesian, Bengali, Tamil
        ("قطة|كلب", "القطة", "قطة"),
        ("قطة|كلب", "هذه قِطَّة", "قطة"),
        ("قطة|كلب", "القِطَّة", "قطة"),
        ("قطة|كلب", "والكلب", "كلب"),
        ("חתול|כלב", "הַחָתוּל", "חתול"),
        ("Katze|Hund", "Da ist keine Katze, kein Hund und kein Vogel.", "-"),
        ("Katze|Hund", "Es gibt keine Katze, Hund oder Vogel.", "-"),
        ("chat|chien", "Il n'y a ni chat, ni chien, ni oiseau", "-"),
        ("gato|perro", "No hay gato, perro ni pájaro.", "-"),
        ("قطة|كلب", "هذه ليست قطة", "-"),
        ("قطة|كلب", "ليس كلبًا بل قطة", "قطة"),
        ("قطة|كلب", "ربما قطة", "-"),
        ("חתול|כלב", "זה החתול", "חתול"),
        ("חתול|כלב", "זה לא חתול", "-"),
        ("बिल्ली|कुत्ता", "यह एक बिल्ली है।", "बिल्ली"),
        ("बिल्ली|कुत्ता", "यह बिल्ली नहीं है।", "-"),
        ("बिल्ली|कुत्ता", "यह कुत्ता नहीं, बिल्ली है।", "बिल्ली"),
        ("แมว|หมา", "นี่คือแมว", "แมว"),
        ("แมว|หมา", "นี่ไม่ใช่แมว", "-"),
        ("แมว|หมา|แมวน้ำ", "แมวน้ำ", "แมวน้ำ"),
        ("mèo|chó", "Đây là con mèo.", "mèo"),
        ("mèo|chó", "Đây không phải là mèo.", "-"),
        ("kucing|anjing", "Ini bukan kucing.", "-"),
        ("kucing|anjing", "Bukan anjing, melainkan kucing.", "kucing"),
        ("বিড়াল|কুকুর", "এটি একটি বিড়াল", "বিড়াল"),
        ("பூனை|நாய்", "இது ஒரு பூனை", "பூனை"),
        # A word is its marks too
        ("கல்|கால்", "கால்", "கால்"),
        ("কল|কলা", "কলা", "কলা"),
        ("कल|कला", "कला", "कला"),
        ("ma|mà", "mà", "mà"),
        ("ma|mà", "ma", "ma"),
        ("résumé|resume", "resume", "resume"),
        ("résumé|resume", "Résumé", "résumé"),
    ],
)
def test_other_languages(labels: str, answer: str, expected: str) -> None:
    assert read(labels, answer) == expected


@pytest.mark.parametrize(
    ("labels", "answer", "expected"),
    [
        ("zero|one|two|three", "3", "three"),
        ("zero|one|two|three", "The number is 2.", "two"),
        ("null|eins|zwei|drei", "3", "drei"),
        ("cero|uno|dos|tres", "2", "dos"),
        ("零|一|二|三", "3", "三"),
        ("0|1|2|7", "sieben", "7"),
        ("0|1|2|7", "Siete.", "7"),
        ("0|1|2|7", "C'est un 7", "7"),
        ("0|1|2|7", "७", "7"),
        ("0|1|2|7", "٧", "7"),
        ("٠|١|٢|٧", "7", "٧"),
        ("one|seven|two", "twenty-seven", "-"),
        ("7 - seven|8 - eight", "seven", "7 - seven"),
        ("7 - seven|8 - eight", "The number is 8.", "8 - eight"),
        ("07|08|17", "17", "17"),
        ("07|7", "7", "7"),
        ("tench, Tinca tinca|goldfish, Carassius auratus", "Tinca tinca", "tench, Tinca tinca"),
        ("tench, Tinca tinca|goldfish, Carassius auratus", "tench, Tinca tinca", "tench, Tinca tinca"),
        ("crane, bird|crane, machine", "a crane", "-"),
        ("crane (bird)|crane (machine)", "crane", "-"),
        ("apple (fruit)|kite [toy]", "a kite", "kite [toy]"),
        ("car / automobile|truck / lorry", "a lorry", "truck / lorry"),
        ("sofa|couch potato", "couch", "-"),
        ("sunglass|sunglasses, dark glasses, shades", "sunglass", "sunglass"),
        ("sunglass|sunglasses, dark glasses, shades", "shades", "sunglasses, dark glasses, shades"),
        ("glass|glasses, spectacles", "glasses", "glasses, spectacles"),
        ("001.Black_footed_Albatross|002.Laysan_Albatross", "Laysan albatross", "002.Laysan_Albatross"),
        ("001.Black_footed_Albatross|002.Laysan_Albatross", "albatross", "-"),
        ("n02085620-Chihuahua|n02085782-Japanese_spaniel", "a chihuahua", "n02085620-Chihuahua"),
        ("12_cat|13_dog", "cat", "12_cat"),
        ("3 wheeler|car", "wheeler", "-"),
    ],
)
def test_numbers_and_names(labels: str, answer: str, expected: str) -> None:
    assert read(labels, answer) == expected


def test_a_users_synonyms() -> None:
    reader = Reader(["sofa", "chair"], synonyms={"sofa": ["couch", "settee"]})
    assert reader.read("A couch.").prediction == 0
    assert reader.read("two settees").prediction == 0
    shared = Reader(["sofa", "chair"], synonyms={"sofa": ["seat"], "chair": ["seat"]})
    assert shared.read("a seat").prediction is None
    exact = Reader(["sofa", "couch"], synonyms={"sofa": ["couch"]})
    assert exact.read("a couch").prediction == 1


@pytest.mark.parametrize(
    ("labels", "alike"),
    [(["ปู", "ปี"], ()), (["résumé", "resume"], ()), (["ma", "mà"], ()), (["C", "C++"], ("C", "C++")), (["a", "A"], ("a", "A"))],
)
def test_labels_are_told_apart_by_all_their_signs(labels: list[str], alike: tuple[str, ...]) -> None:
    assert unreadable(labels) == alike


NOUNS = st.text(alphabet=st.characters(categories=["Lu", "Ll", "Lo", "Mn", "Mc"]), min_size=2, max_size=8)


@given(st.lists(NOUNS, min_size=2, max_size=5, unique_by=lambda noun: noun.casefold()))
def test_a_label_by_itself_is_read_as_itself_or_as_none(labels: list[str]) -> None:
    if unreadable(labels):
        return
    reader = Reader(labels)
    for index, label in enumerate(labels):
        assert reader.read(label).prediction in (index, None)


def test_the_bundled_models_are_read_as_before() -> None:
    """Every answer of llava-mini and llava-mini-forgot to the whole test splits, with each label that it was given to."""
    catalog = Catalog.load()
    known = catalog.known_labels()
    others = tuple({label: None for labels in known.values() for label in labels})
    before = json.loads((Path(__file__).parent / "readings.json").read_text(encoding="utf-8"))
    for image_set, answers in before.items():
        spec = catalog.image_set(image_set)
        context = ScorerContext(
            known[image_set], spec.stems, tuple(spec.prompt.split("{labels}")), others, catalog.known_stems()
        )
        scorer = AnswerScorer(context)
        for answer, by_label in answers.items():
            for label, expected in by_label.items():
                score = scorer.score(Observation(answer=answer), int(label), known[image_set])
                assert [score.prediction, score.kind, score.well_formed] == expected, (image_set, answer, label)


def test_the_cases_are_documented() -> None:
    page = DOCUMENTED.read_text(encoding="utf-8")
    table = page.partition("| labels | answer | read as | why |\n|---|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [tuple(cell.strip().strip("`") for cell in line.strip("| ").split(" | ")) for line in table.splitlines()]
    assert rows == [(case[0].replace("|", " · "), *case[1:]) for case in CASES]
