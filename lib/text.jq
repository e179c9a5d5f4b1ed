# How results are written for people: for every program of jq that begins with $JQ_TEXT (say.sh).

# The text on one line. What begins a line, and what a terminal or a viewer acts on instead of showing it, is escaped as
# JSON does, and as the worker does in its lines (UNSEEN in mirror/model/log_lines.py), but for tabs. A text that is JSON
# stays so.
def hex: [(. / 4096 | floor), (. / 256 | floor), (. / 16 | floor), .]
  | map("0123456789abcdef"[. % 16:. % 16 + 1]) | add;
def visible: gsub("(?<sign>[\\x{0}-\\x{8}\\x{a}-\\x{1f}\\x{7f}-\\x{9f}\\x{2028}-\\x{202e}\\x{2066}-\\x{2069}])";
  "\\u\(.sign | explode[0] | hex)");

# A line in 80 columns, followed by indented lines for the rest. A line is broken between words; a text in quotes or
# backticks counts as one word, and so does a command of ours, so that it can be copied as a whole.
def folded($indent):
  reduce scan(" *(?:(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|\\./\\w+\\.sh(?: --local)?(?: [a-z]+)?(?: --[a-z-]+)*)[^ ]*|[^ ]+)")
    as $word ([""]; if (.[-1] | length) < $indent or (.[-1] + $word | length) <= 80 then .[-1] += $word
      else . + [" " * $indent + ($word | sub("^ +"; ""))] end) | .[];
