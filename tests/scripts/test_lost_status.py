"""No script asks AWS where Bash drops the status of the call (lost_status.py): what failed would look like "none"."""

import lost_status
import pytest
from test_layout import SCRIPTS

# A function that asks AWS, as `a` and by way of another as `b`.
FUNCTIONS = """
a() { jq . && aws s3api list-buckets; }
b() { hand_on a; }
hand_on() { "$@"; }
one_call() {
  f
  try_aws s3api list-buckets
}
two_calls() {
  a
  try_aws s3api list-buckets
}
"""
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
    "if hand_on a; then :; fi": "a condition",
    'if "ask_$1"; then :; fi': "a condition",
    '"$@" || f': "a condition",
    "if two_calls; then :; fi": "a condition",
    "if one_call; then :; fi": "",
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
    (found,) = lost_status.losses({"": f"{FUNCTIONS}last() {{\n{script}\n}}\n"}).values()
    assert [loss.place for loss in found] == [PLACES[script]] * bool(PLACES[script])


def test_no_script_asks_aws_where_the_status_is_dropped() -> None:
    found = [
        f"{name}:{loss.line}: {loss.command}: in {loss.place}, which drops its status: assign it on a line of its own"
        for name, losses in lost_status.losses(SCRIPTS).items()
        for loss in losses
    ]
    assert found == []
