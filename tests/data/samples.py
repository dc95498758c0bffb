"""Small samples of every format, made up, in the exact shape of the published files."""

import json

import pytest

from polyencoders.errors import DataError


def put(folder, name, content):
    """Writes a file, in folders that are made; text, bytes, or what JSON holds."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def error_of(read, *arguments, **options):
    """What a reader says against its input, in one line."""
    with pytest.raises(DataError) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CONVAI2 = (
    "1 your persona: i ski.\n"
    "2 your persona: i have two cats.\n"
    "3 partner's persona: i sing.\n"
    "4 hi , how are you ?\tgood , i was skiing .\t\tno .|i sing .|good , i was skiing .\n"
    "5 alone ?\twith my cats .\t\twith my cats .|in oslo .|no .\n"
    "1 your persona: i read.\n"
    "2 hello\thi . do you read ?\t\tno .|hi . do you read ?\n"
)

BABI = (
    "1 <SILENCE>\tHello , how may I help you ?\n"
    "2 a cheap place\tapi_call R_cuisine R_location cheap\n"
    "3 prezzo R_cuisine italian\n"
    "4 prezzo R_price cheap\n"
    "5 <SILENCE>\tprezzo is a nice place\n"
    "\n"
    "1 <SILENCE>\tHello , how may I help you ?\n"
    "2 thank you\tyou are welcome\n"
)
BABI_CANDIDATES = (
    "1 prezzo is a nice place\n1 you are welcome\n1 api_call R_cuisine R_location cheap\n"
    "1 Hello , how may I help you ?\n1 Sorry ?\n"
)


def dstc7(number, answer=True):
    options = [{"candidate-id": f"C{number}{letter}", "utterance": f"option {letter} {number}"} for letter in "ABC"]
    record = {
        "data-split": "train",
        "example-id": number,
        "messages-so-far": [
            {"speaker": "participant_1", "utterance": f"no sound {number}"},
            {"speaker": "participant_2", "utterance": "which card ?"},
        ],
        "options-for-next": options,
        "scenario": 1,
    }
    return record | ({"options-for-correct-answers": [options[number % 3]]} if answer else {})


UBUNTU_TRAIN = (
    "Context,Utterance,Label\n"
    '"no sound __eou__ help , please __eou__ __eot__ which card ? __eou__ __eot__",'
    '"an old one __eou__ from 2004 __eou__",1\n'
    "any news ? __eou__ __eot__,apples __eou__,0\n"
    "hi __eou__ __eot__,hello __eou__,1.0\n"
    "who ? __eou__ __eot__,__eou__,1\n"
)
UBUNTU_VALID = (
    "Context,Ground Truth Utterance,Distractor_0,Distractor_1\n"
    "hi __eou__ __eot__ hello __eou__ __eot__,how are you __eou__,no __eou__,__eou__\n"
)
UBUNTU_V1 = "Context,Response,Flag\nno sound __EOS__ which card ? __EOS__,an old one __EOS__,1\n"


def mutual(number, answer="B", article="f : may i come in ? m : m ; f : sit down . F: thanks ."):
    options = [f"m : {word} {number} ." for word in ("tea", "milk", "water", "juice")]
    return {"answers": answer, "options": options, "article": article, "id": f"dev_{number}"}


def dailydialogpp(number, positives_only=False):
    record = {
        "id": number,
        "context": [f"Where to, {number}?", "Oslo."],
        "positive_responses": [f"right {i} of {number}" for i in range(5)],
    }
    if positives_only:
        return {"dialog_id": number, **{name: record[name] for name in ("context", "positive_responses")}}
    return record | {
        "adversarial_negative_responses": [f"tricky {i} of {number}" for i in range(5)],
        "random_negative_responses": [f"random {i} of {number}" for i in range(5)],
    }


def wikiqa(folder):
    rows = [
        ("Q1", "what is tea ?", "coffee is not .", 0),
        ("Q1", "what is tea ?", "tea is a drink .", 1),
        ("Q1", "what is tea ?", "a drink made of leaves .", 1),
        ("Q2", "who ?", "nobody .", 0),
        ("Q3", "when ?", "at four .", 1),
    ]
    for column, name in enumerate(("id.txt", "a.toks", "b.toks", "sim.txt")):
        put(folder, name, "".join(f"{row[column]}\n" for row in rows))
    return folder


def beir(folder):
    put(
        folder,
        "corpus.jsonl",
        '{"_id": "d1", "title": "Tea", "text": "A drink."}\n'
        '{"_id": "d2", "title": "", "text": "A bean.", "metadata": {}}\n'
        '{"_id": "d3", "text": "An engine."}\n',
    )
    queries = [f'{{"_id": "q{i}", "text": "question {i}"}}\n' for i in range(12)]
    put(folder, "queries.jsonl", "".join(queries))
    header = "query-id\tcorpus-id\tscore\n"
    put(folder, "qrels/train.tsv", header + "".join(f"q{i}\td{i % 3 + 1}\t1\n" for i in range(10)))
    put(folder, "qrels/test.tsv", header + "q10\td1\t2\nq10\td3\t1\nq10\td2\t0\nq11\td2\t0\n")
    return folder


def scifact(folder):
    put(
        folder,
        "corpus_train.csv",
        "doc_id,title,abstract,structured\n"
        '7,"On tea, briefly","[\'Tea is a drink.\'\n ""It\'s hot."" \'It isn\\\'t [cold].\\n\']",0\n'
        "8,Beans,\"['Beans are not.']\",1\n",
    )
    header = "id,claim,evidence_doc_id,evidence_label,evidence_sentences,cited_doc_ids\n"
    # A claim with two pieces of evidence has two rows.
    rows = '1,Tea is hot.,7,SUPPORT,[1],"[7, 8]"\n1,Tea is hot.,8,SUPPORT,[0],"[7, 8]"\n2,Beans are cold.,,,[],[8]\n'
    put(folder, "claims_train.csv", header + rows)
    put(folder, "claims_validation.csv", header + '3,"Tea, too.",7,CONTRADICT,[0 1],[7]\n')
    return folder


CLINC150 = {
    "oos_val": [["who won", "oos"]],
    "val": [["move money", "transfer"]],
    "train": [["freeze my account", "freeze_account"], ["send 5 euros", "transfer"], ["block it", "freeze_account"]]
    + [[f"pay {i}", "transfer"] for i in range(9)],
    "oos_test": [],
    "test": [["please freeze it", "freeze_account"]],
    "oos_train": [],
}

LABELLED = (
    'text,category\n"Where is my card, please?",card_arrival\nLost it,lost_card\nDeclined,Refund_not_showing_up\n'
)

IRC_LOG = (
    "[12:00] <oga> my sound is gone\n"
    "=== bob2 [bob@host] has joined #ubuntu\n"
    "[12:01] <bob2> oga: which card?\n"
    "[12:01] <lukus> bob2, ubuntu: an old one\n"
    "[12:02] * lukus sighs\n"
    "[12:02] <oga> Bob2: the old one, http://a.b/c: d\n"
    "[12:03] <bob2> oga:\n"
    "[12:04] <bob2> reboot: always\n"
)
IRC_LINKS = "0 0 -\n1 1 -\n0 2 - \n4 2 -\n2 3 -\n2 5 -\n4 5 -\n5 6 -\n5 7 -\n1 7 -\n5 7 -\n"

SELF_DIALOGUE = (
    '"HITId","WorkerId","Answer.sentence1","Answer.sentence10","Answer.sentence2","Answer.sentence3","Approve"\n'
    '"3YZ","A2U","Seen  the film?","Bye.","Twice, in fact.\nReally.","","x"\n'
    '"3YY","A2V","Good?","","Very.","So?",""\n'
)
