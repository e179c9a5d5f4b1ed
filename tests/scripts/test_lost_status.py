"""No script asks AWS where Bash drops the status of the call (lost_status.py): what failed would look like "none"."""

import lost_status
import pytest
from test_layout import SCRIPTS

# A function that asks AWS, as `a` and by way of another as `b`.
FUNCTIONS = 'a() { aws s3api list-buckets; }\nb() { write a; }\nwrite() { "$@"; }\n'
# A script -> the place that drops the status of a call in it, or nothing.
PLACES = {
    'jq . "$(a)"': "an argument",
    'f "x$(b | jq .)"': "an argument",
    'x=$(f "$(a)")': "an argument",
    'NAME=$(a) f': "an assignment before a command",
    "x=$(a) y=$(jq .)": "an assignment that another one follows",
    'jq . <<<"$(a)"': "a redirection or a here-document",
    "jq . <<EOF\n$(b)\nEOF": "a redirection or a here-document",
    "mapfile -t x < <(a)": "a redirection or a here-document",
    "jq . <(a)": "an argument",
    "local x=$(a)": "local, declare or readonly",
    "readonly x=$(aws sqs list-queues)": "local, declare or readonly",
    "[[ -n $(fact queue) ]]": "[[ ]]",
    "(($(a) > 1))": "(( ))",
    "for x in $(a); do :; done": "the words of a loop",
    'case "$(a)" in x) ;; esac': "the word of a case",
    "if a; then :; fi": "a condition",
    "if x=$(b); then :; fi": "a condition",
    "if [[ $x == 1 ]] && a; then :; fi": "a condition",
    "while a; do :; done": "a condition",
    "until a; do :; done": "a condition",
    "! a": "a condition",
    "a || f": "a condition",
    "x=$(a && b)": "a condition",
    "if { x=$(a); f; }; then :; fi": "a condition",
    "if write a; then :; fi": "a condition",
    'if "ask_$1"; then :; fi': "a condition",
    '"$@" || f': "a condition",
    "x=$(a)": "",
    "x=$(a | jq .)\ny=$(b)": "",
    "x=(one \"$(a)\")": "",
    'x=${y:-"$(a)"}': "",
    "[[ -n $x ]] || a": "",
    "f && x=$(b)": "",
    "if f; then a; else x=$(b); fi": "",
    "a | while read -r x; do b; done": "",
    "if x=$(aws_or_error s3api list-buckets); then :; fi": "",
    "x=$(fact_or_reason queue) || f": "",
    "if type -P aws; then :; fi": "",
    "case \"$x\" in x) a ;; esac": "",
    "(set -e && a) >file": "",
}  # fmt: skip


@pytest.mark.parametrize("script", PLACES)
def test_each_place_that_drops_a_status_is_known(script: str) -> None:
    read = lost_status.tree(f"{FUNCTIONS}main() {{\n{script}\n}}\n")
    found = lost_status.losses(read, lost_status.asking([read]))
    assert [loss.place for loss in found][:1] == [PLACES[script]][: bool(PLACES[script])]


def test_no_script_asks_aws_where_the_status_is_dropped() -> None:
    trees = {name: lost_status.tree(text) for name, text in SCRIPTS.items()}
    asking = lost_status.asking(list(trees.values()))
    assert len(asking) > 200
    found = [f"{name}:{loss.line}: {loss.command}: in {loss.place}, which drops its status: assign it on its own line"
             for name, read in trees.items() for loss in lost_status.losses(read, asking)]  # fmt: skip
    assert found == []
