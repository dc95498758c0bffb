"""Readers of dialogue: what each returns for a small file in its format, and its errors for a bad one."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from polyencoders.data import (
    Example,
    load_examples,
    read_babi,
    read_convai2,
    read_dailydialogpp,
    read_dstc7,
    read_mutual,
    read_self_dialogue,
    read_source,
    read_ubuntu,
    read_ubuntu_irc,
)
from polyencoders.data.lines import leaving_out_bad
from polyencoders.data.sources import turns_as_examples

SPEC = importlib.util.spec_from_file_location("samples", Path(__file__).with_name("samples.py"))
samples = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(samples)
put, error_of = samples.put, samples.error_of


def test_convai2_keeps_persona_lines_and_the_order_of_candidates(tmp_path):
    persona = ["your persona: i ski.", "your persona: i have two cats.", "partner's persona: i sing."]
    path = put(tmp_path, "train_self_original.txt", samples.CONVAI2)
    said = ["hi , how are you ?", "good , i was skiing ."]
    assert read_convai2(path) == [
        Example([*persona, said[0]], said[1], (), ["no .", "i sing .", said[1]]),
        Example([*persona, *said, "alone ?"], "with my cats .", (), ["with my cats .", "in oslo .", "no ."]),
        Example(["your persona: i read.", "hello"], "hi . do you read ?", (), ["no .", "hi . do you read ?"]),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 hi\tho", "numbered 3, expected 2, or 1 for a new conversation"),
        ("hi\tho", "expected a line that begins with its number in the conversation"),
        ("2 just talking", "neither a persona (your persona: ...) nor a reply after a tab: 'just talking'"),
        ("2 hi\tho\t\the|hu", "candidates lack the right answer"),
    ],
)
def test_convai2_refuses(tmp_path, line, message):
    path = put(tmp_path, "a.txt", f"1 your persona: i ski.\n{line}\n")
    assert error_of(read_convai2, path).startswith(f"{path}:2: {message}")


def test_convai2_without_a_test_split_is_reported_on_validation(tmp_path):
    text = "".join(
        f"1 your persona: i am {i}.\n2 hi\thello {i}\t\tno|hello {i}\n3 oh\tyes\t\tno|yes\n" for i in range(20)
    )
    put(tmp_path, "train_self_original.txt", text)
    put(tmp_path, "train_self_revised.txt", text)
    put(tmp_path, "valid_self_original.txt", samples.CONVAI2)
    splits = load_examples(f"convai2:{tmp_path}")
    assert splits.test == read_convai2(tmp_path / "valid_self_original.txt")
    assert len(splits.train + splits.validation) == 40
    assert {e.query[0] for e in splits.train}.isdisjoint(e.query[0] for e in splits.validation)


def test_babi(tmp_path):
    path = put(tmp_path, "dialog-babi-task6-dstc2-trn.txt", samples.BABI)
    hello, call = "Hello , how may I help you ?", "api_call R_cuisine R_location cheap"
    assert read_babi(path) == [
        Example("<SILENCE>", hello),
        Example(["<SILENCE>", hello, "a cheap place"], call),
        Example(["<SILENCE>", hello, "a cheap place", call, "<SILENCE>"], "prezzo is a nice place"),
        Example("<SILENCE>", hello),
        Example(["<SILENCE>", hello, "thank you"], "you are welcome"),
    ]


def test_babi_shares_one_list(tmp_path):
    for split in ("trn", "dev", "tst"):
        put(tmp_path, f"dialog-babi-task6-dstc2-{split}.txt", samples.BABI)
    path = put(tmp_path, "dialog-babi-task6-dstc2-candidates.txt", samples.BABI_CANDIDATES)
    splits = load_examples(f"babi:{tmp_path}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [5, 5, 5]
    assert splits.corpus == tuple(line[2:] for line in path.read_text().splitlines())
    assert splits.corpus[-1] == "Sorry ?"
    assert all(example.candidates is None for example in splits.test)
    put(tmp_path, "dialog-babi-task5-trn.txt", samples.BABI)
    assert "2 files match *-trn.txt, expected one: dialog-babi-task5-trn.txt" in error_of(
        load_examples, f"babi:{tmp_path}"
    )


def test_babi_refuses(tmp_path):
    path = put(tmp_path, "a.txt", "1 hi\tho\the\n")
    assert error_of(read_babi, path) == f"{path}:1: 2 tabs, expected one, between user and system"
    path = put(tmp_path, "a.txt", "1 hi\tho\n2 \tho\n")
    assert error_of(read_babi, path).startswith(f"{path}:2: query, turn 3 of 3: the text is empty")
    assert "no conversations: the file is empty" in error_of(read_babi, put(tmp_path, "a.txt", "\n"))
    path = put(tmp_path, "candidates.txt", "1 hi\n2 ho\n")
    assert error_of(load_examples, f"babi:{tmp_path}") == f"{path}:2: expected 1, a space and a reply, given '2 ho'"
    put(tmp_path, "candidates.txt", "\n")
    assert "no candidates: the file is empty" in error_of(load_examples, f"babi:{tmp_path}")


def dstc7_example(number):
    options = [f"option {letter} {number}" for letter in "ABC"]
    return Example([f"no sound {number}", "which card ?"], options[number % 3], (), options)


@pytest.mark.parametrize("indent", [None, 4])
def test_dstc7(tmp_path, indent):
    records = [samples.dstc7(i) for i in range(40)]
    path = put(tmp_path, "ubuntu_train_subtask_1.json", json.dumps(records, indent=indent))
    assert read_dstc7(path) == [dstc7_example(i) for i in range(40)]
    assert read_dstc7(put(tmp_path, "a.json.gz", gzip.compress(path.read_bytes()))) == read_dstc7(path)


def test_dstc7_answers_of_the_test_split_are_in_a_file_of_their_own(tmp_path):
    put(tmp_path, "ubuntu_train_subtask_1.json", [samples.dstc7(i) for i in range(10)])
    put(tmp_path, "ubuntu_dev_subtask_1.json", [samples.dstc7(i) for i in range(10, 14)])
    path = put(tmp_path, "ubuntu_test_subtask_1.json", [samples.dstc7(i, answer=False) for i in (20, 21)])
    assert "the test split needs its file of answers" in error_of(read_dstc7, path)
    put(tmp_path, "ubuntu_responses_subtask_1.tsv", "21\tC21A\toption A 21\n20\tC20C\toption C 20\n")
    splits = load_examples(f"dstc7:{tmp_path}")
    assert splits.test == [dstc7_example(20), dstc7_example(21)]
    assert [len(splits.train), len(splits.validation)] == [10, 4]
    answers = put(tmp_path, "other.tsv", "21\tC21A\n20\tX\n")
    assert "none of the options is the answer to the example-id 20, ['X']" in error_of(read_dstc7, path, answers)
    answers = put(tmp_path, "other.tsv", "21\tC21A\n")
    assert "no answer to the example-id 20" in error_of(read_dstc7, path, answers)
    answers = put(tmp_path, "other.tsv", "21 C21A\n")
    assert error_of(read_dstc7, path, answers).startswith(f"{answers}:1: expected an example-id, a tab")


def test_dstc7_refuses(tmp_path):
    good = samples.dstc7(1)
    for bad, message in [
        ([], "expected an object with messages-so-far and options-for-next, given []"),
        (good | {"messages-so-far": []}, "messages-so-far: expected a list of utterances"),
        (good | {"options-for-next": ["a"]}, "options-for-next, 1 of 1: expected {"),
    ]:
        path = put(tmp_path, "a.json", [good, bad])
        assert error_of(read_dstc7, path).startswith(f"{path}: dialogue 2 of 2: {message}")
    for content, message in [
        (" [ ] ", "no dialogues: the list is empty"),
        ('{"a": 1}', "expected a list of dialogues, given {'a': 1}"),
        ('[{"a": 1,\n"b" 2}]', "not valid JSON (Expecting ':' delimiter, line 2, column 5)"),
        ("", "the file is empty, expected JSON"),
        (b'["\xff"]', "1: not UTF-8"),
        (gzip.compress(b"[" + b"1," * 10_000 + b"1]")[:-20], "the gzip file ends too early (truncated)"),
    ]:
        error = error_of(read_dstc7, put(tmp_path, "a.json", content))
        assert message in error
        assert "JSON Lines" not in error, "a list is right here"


def test_ubuntu(tmp_path):
    assert read_ubuntu(put(tmp_path, "train.csv", samples.UBUNTU_TRAIN)) == [
        Example(["no sound help , please", "which card ?"], "an old one from 2004"),
        Example("hi", "hello"),
    ]
    assert read_ubuntu(put(tmp_path, "valid.csv", samples.UBUNTU_VALID)) == [
        Example(["hi", "hello"], "how are you", (), ["how are you", "no"])
    ]
    assert read_ubuntu(put(tmp_path, "v1.csv.gz", gzip.compress(samples.UBUNTU_V1.encode()))) == [
        Example(["no sound", "which card ?"], "an old one")
    ]
    put(tmp_path, "test.csv", samples.UBUNTU_VALID)
    splits = load_examples(f"ubuntu:{tmp_path}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [2, 1, 1]
    v1 = tmp_path / "v1"
    put(v1, "trainset.csv", samples.UBUNTU_V1), put(v1, "valset.csv", samples.UBUNTU_VALID)
    put(v1, "testset.csv", samples.UBUNTU_VALID)
    assert len(load_examples(f"ubuntu:{v1}").train) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\n", ":1: expected a header Context, Utterance, Label or the like, given ['a', 'b', 'c']"),
        ("Context,Utterance,Label\na,b,2\n", ":2: the third column is a label: expected 0 or 1, given '2'"),
        ("Context,Utterance,Label\na,b\n", ":2: 2 fields, expected 3"),
        ("Context,Utterance,Label\na,b,0\n", ": no examples: no row has a right answer"),
        ("Context,Utterance,Label\n__eou__ __eot__,b,1\n", ":2: query: an empty list of turns"),
    ],
)
def test_ubuntu_refuses(tmp_path, content, message):
    path = put(tmp_path, "train.csv", content)
    assert error_of(read_ubuntu, path).startswith(f"{path}{message}")


def test_mutual(tmp_path):
    for number in (10, 2, 1):
        put(tmp_path, f"dev_{number}.txt", samples.mutual(number, answer="ABCD"[number % 4]))
    found = read_mutual(tmp_path)
    assert [example.candidates[0] for example in found] == ["m : tea 1 .", "m : tea 2 .", "m : tea 10 ."]
    assert found[0].positives == ("m : milk 1 .",)
    assert found[0].query == ("f : may i come in ?", "m : m ; f : sit down .", "F: thanks .")
    for example in found:
        assert sorted([*example.positives, *example.negatives]) == sorted(example.candidates)


def test_mutual_holds_out_from_training_and_reports_on_dev(tmp_path):
    for number in range(40):
        article = f"m : this is how article {number // 2} begins , and it goes on for long . f : so it does {number} ."
        put(tmp_path, f"train/train_{number}.txt", samples.mutual(number, article=article))
    put(tmp_path, "dev/dev_1.txt", samples.mutual(1))
    put(tmp_path, "test/test_1.txt", samples.mutual(1, answer=" "))
    splits = load_examples(f"mutual:{tmp_path}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [36, 4, 1]
    assert {e.query[0] for e in splits.train}.isdisjoint(e.query[0] for e in splits.validation), "articles stay whole"
    assert splits == load_examples(f"mutual:{tmp_path}")
    assert splits.validation != load_examples(f"mutual:{tmp_path}", seed=1).validation
    assert read_source(f"mutual:{tmp_path / 'dev'}").examples == splits.test


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": " "}, "answers: expected one letter of ABCD, given ' ' (the test split's answers are not public)"),
        ({"answers": "E"}, "answers: expected one letter of ABCD, given 'E'"),
        ({"answers": ""}, "answers: expected one letter of ABCD, given ''"),
        ({"options": []}, "options: expected a list of texts, given []"),
        ({"article": 3}, "article: expected text, given 3"),
        ({"article": " "}, "query, turn 1 of 1: the text is empty"),
    ],
)
def test_mutual_refuses(tmp_path, change, message):
    path = put(tmp_path, "dev_1.txt", samples.mutual(1) | change)
    assert error_of(read_mutual, tmp_path).startswith(f"{path}: {message}")


def test_mutual_refuses_what_is_no_question(tmp_path):
    assert "no questions, expected files such as dev_1.txt" in error_of(read_mutual, tmp_path)
    path = put(tmp_path, "dev_1.txt", {"article": "m : hi"})
    assert error_of(read_mutual, tmp_path) == f"{path}: no \"options\"; given only ['article']"
    assert "a file, expected a folder of questions" in error_of(read_mutual, path)
    assert "no such folder" in error_of(read_mutual, tmp_path / "absent")
    put(tmp_path, "dev_1.txt", "[1]")
    assert "expected an object with article, options and answers, given [1]" in error_of(read_mutual, tmp_path)
    put(tmp_path, "dev_1.txt", '{"a":\n}')
    assert f"{path}: not valid JSON (Expecting value, line 2, column 1)" in error_of(read_mutual, tmp_path)
    put(tmp_path, "dev_1.txt", "")
    assert error_of(read_mutual, tmp_path) == f"{path}: the file is empty, expected JSON"


def test_dailydialogpp(tmp_path):
    lines = "\n".join(json.dumps(samples.dailydialogpp(i)) for i in range(7))
    path = put(tmp_path, "dev.json", lines)
    found, easy = read_dailydialogpp(path), read_dailydialogpp(path, against="random")
    assert found[6].query == ("Where to, 6?", "Oslo.")
    assert found[6].positives == easy[6].positives == tuple(f"right {i} of 6" for i in range(5))
    assert found[6].candidates == ("right 1 of 6", *(f"tricky {i} of 6" for i in range(5)))
    assert found[6].negatives == found[6].candidates[1:]
    assert easy[6].candidates == ("right 1 of 6", *(f"random {i} of 6" for i in range(5)))
    listed = [sum(text in example.positives for text in example.candidates) for example in found]
    assert listed == [1] * 7, "R@1 means nothing where several of the few are right"

    put(tmp_path, "test.json", lines)
    put(tmp_path, "data_positives.json", "\n".join(json.dumps(samples.dailydialogpp(i, True)) for i in range(20, 24)))
    splits = load_examples(f"dailydialog++:{tmp_path}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [4, 7, 7]
    assert splits.train[0].candidates is None
    assert load_examples(f"dailydialog++-random:{tmp_path}").test == easy
    put(tmp_path, "train.json", json.dumps(samples.dailydialogpp(30)))
    assert len(load_examples(f"dailydialog++:{tmp_path}").train) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": []}, "context: expected a list of texts, given []"),
        ({"context": "hi"}, "context: expected a list of texts, given 'hi'"),
        ({"positive_responses": [" "]}, "positive, text 1 of 1: the text is empty"),
        ({"adversarial_negative_responses": "no"}, "adversarial_negative_responses: expected a list of texts"),
    ],
)
def test_dailydialogpp_refuses(tmp_path, change, message):
    lines = [json.dumps(samples.dailydialogpp(1)), json.dumps(samples.dailydialogpp(2) | change)]
    path = put(tmp_path, "dev.json", "\n".join(lines))
    assert error_of(read_dailydialogpp, path).startswith(f"{path}:2: {message}")


def test_dailydialogpp_refuses_other_files(tmp_path):
    path = put(tmp_path, "dev.json", {"version": "1.0", "data": []})
    assert error_of(read_dailydialogpp, path) == f"{path}:1: no \"context\"; given only ['version', 'data']"
    assert "no examples" in error_of(read_dailydialogpp, put(tmp_path, "dev.json", "\n"))
    assert "no training data" in error_of(load_examples, f"dailydialog++:{tmp_path}")


def test_ubuntu_irc(tmp_path):
    put(tmp_path, "x.raw.txt", samples.IRC_LOG)
    path = put(tmp_path, "x.annotation.txt", samples.IRC_LINKS)
    gone, card, old, sighs = "my sound is gone", "which card?", "ubuntu: an old one", "sighs"
    newer, reboot = "the old one, http://a.b/c: d", "reboot: always"
    # Line 5 answers 2 and 4: what comes before 5 is the latest of them. Line 6 says nothing, line 1 is the server's.
    expected = [
        Example(gone, card),
        Example([gone, card], sighs),
        Example([gone, card], old),
        Example([gone, card], newer),
        Example([gone, card, sighs], newer),
        Example([card, sighs, newer], reboot),
    ]
    assert read_ubuntu_irc(tmp_path) == read_ubuntu_irc(path) == expected
    assert read_ubuntu_irc(path, turns=1)[-1] == Example(newer, reboot)
    for split in ("train", "dev", "test"):
        put(tmp_path, f"{split}/x.raw.txt", samples.IRC_LOG)
        put(tmp_path, f"{split}/x.annotation.txt", samples.IRC_LINKS)
    splits = load_examples(f"ubuntu-irc:{tmp_path}")
    assert splits.train == splits.validation == splits.test == expected


def test_ubuntu_irc_refuses(tmp_path):
    path = put(tmp_path, "x.annotation.txt", "0 0 -\n0 9 -\n")
    assert error_of(read_ubuntu_irc, path) == f"{tmp_path / 'x.raw.txt'}: no such file"
    put(tmp_path, "x.raw.txt", samples.IRC_LOG)
    assert error_of(read_ubuntu_irc, path) == f"{path}:2: line 9 of the log, which has 8 (counted from 0)"
    put(tmp_path, "x.annotation.txt", "0 a -\n")
    assert error_of(read_ubuntu_irc, path) == f"{path}:1: expected two line numbers and a dash, given '0 a -'"
    assert "name ends in .annotation.txt" in error_of(read_ubuntu_irc, tmp_path / "x.raw.txt")
    assert "no annotations" in error_of(read_ubuntu_irc, put(tmp_path, "empty/a.txt", "").parent)
    assert "turns=0" in error_of(read_ubuntu_irc, path, turns=0)


def test_self_dialogue(tmp_path):
    put(tmp_path, "music/b.csv", samples.SELF_DIALOGUE)
    put(tmp_path, "film/a.csv", samples.SELF_DIALOGUE)
    first, second = ["Seen the film?", "Twice, in fact. Really.", "Bye."], ["Good?", "Very.", "So?"]
    assert read_self_dialogue(tmp_path) == [first, second, first, second]
    assert read_self_dialogue(tmp_path / "film") == read_self_dialogue(tmp_path / "film" / "a.csv") == [first, second]
    source = read_source(f"self-dialogue:{tmp_path / 'film'}")
    assert source.examples[1:3] == [Example(first[:2], "Bye."), Example("Good?", "Very.")]
    assert source.together == [0, 0, 1, 1]
    assert turns_as_examples([first], turns=1)[0][1] == Example(first[1], "Bye.")
    assert "turns=0" in error_of(turns_as_examples, [first], turns=0)
    path = put(tmp_path, "other.csv", "text,label\na,b\n")
    assert error_of(read_self_dialogue, path).startswith(f"{path}:1: no columns Answer.sentence1")
    assert "no conversations" in error_of(read_self_dialogue, put(tmp_path, "other.csv", "Answer.sentence1\n"))
    assert "no tables" in error_of(read_self_dialogue, put(tmp_path, "empty/a.txt", "").parent)


def test_items_are_left_out_where_that_is_asked(tmp_path):
    talk = put(tmp_path, "babi.txt", "1 hi\thello\n2 tea?\t\n1 milk?\tno\n")
    assert error_of(read_babi, talk).startswith(f"{talk}:2: positive: the text is empty")
    with leaving_out_bad() as left_out:
        assert read_babi(talk) == [Example("hi", "hello"), Example("milk?", "no")]
    assert (left_out.number, left_out.first[0][: len(f"{talk}:2: p")]) == (1, f"{talk}:2: p")
    put(tmp_path, "mutual/dev_1.txt", "{")
    put(tmp_path, "mutual/dev_2.txt", {**samples.mutual(2), "answers": "Z"})
    put(tmp_path, "mutual/dev_3.txt", samples.mutual(3))
    with leaving_out_bad() as left_out:
        assert len(read_mutual(tmp_path / "mutual")) == 1
    assert left_out.number == 2
    assert left_out.first[0].startswith(f"{tmp_path / 'mutual' / 'dev_1.txt'}: not valid JSON")
    assert left_out.first[1].startswith(f"{tmp_path / 'mutual' / 'dev_2.txt'}: answers: expected one letter")
    put(tmp_path, "irc/x.raw.txt", "[12:00] <oga> no sound!\n[12:01] <bob2> oga: which card?\n")
    marks = put(tmp_path, "irc/x.annotation.txt", "0 7 -\n0 1 -\nno mark\n")
    with leaving_out_bad() as left_out:
        assert read_ubuntu_irc(tmp_path / "irc") == [Example("no sound!", "which card?")]
    assert [message[: len(f"{marks}:0: ")] for message in left_out.first] == [f"{marks}:1: ", f"{marks}:3: "]


def test_nothing_left_of_a_set_is_said_with_the_reasons(tmp_path):
    talk = put(tmp_path, "babi.txt", "1 tea?\t\n")
    put(tmp_path, "mutual/dev_1.txt", "{")
    table = put(tmp_path, "valid.csv", "Context,Utterance,Label\na,b,2\n")
    for read, path in ((read_babi, talk), (read_mutual, tmp_path / "mutual"), (read_ubuntu, table)):
        with leaving_out_bad():
            assert "all 1 were left out, as they cannot be used" in error_of(read, path)
