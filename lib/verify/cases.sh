# shellcheck shell=bash
# The objects of ./sync.sh verify: names, how they are uploaded and changed, and what their copies have to be like.

# What a worker copies with one CopyObject if MULTIPART_THRESHOLD says nothing else, in bytes.
readonly VERIFY_COPY_LIMIT=5368709120
# An object of --large: this many copies of one part. 6 GiB is more than one CopyObject may copy.
: "${VERIFY_LARGE_PARTS:=96}"
: "${VERIFY_LARGE_PART_BYTES:=67108864}"

# NAME -> its key, what it shows, how it went at last, and in this round: missing, arrived, failed.
declare -gA CASE_KEY=() CASE_MEANING=() CASE_RESULT=() CASE_STATE=()
CASES=()

# choose_cases LARGE THRESHOLD
choose_cases() {
  local row name key meaning objects
  objects=( # NAME|KEY in the folder of the run|what it is
    'small|small.txt|a small object'
    'empty|empty.dat|an empty object'
    'nested|nested/deeper/file.json|nested folders'
    'name|with space/größe € +%.txt|a space and more than ASCII in the key'
    'encoded|encoded.txt|Content-Encoding: gzip, user metadata'
    'tagged|tagged.txt|object tags, which are not carried'
    'double|double//slash.txt|// in the key'
    'trailing|trailing/|a key that ends in /'
    'overwritten|overwritten.txt|overwritten: same size, other bytes'
    'changed|changed in place +é.txt|metadata changed in place'
    'deleted|deleted.txt|deleted'
  )
  (($2 >= 64 * 1024 * 1024)) || objects+=('multipart|multipart.bin|copied in parts') # passed with an upload
  [[ $1 == false ]] || objects+=('large|large.bin|copied in parts, made in S3')
  for row in "${objects[@]}"; do
    IFS='|' read -r name key meaning <<<"$row"
    CASES+=("$name")
    CASE_KEY[$name]=$VERIFY_FOLDER$key CASE_MEANING[$name]=$meaning CASE_RESULT[$name]="not asked"
  done
}

# --- both buckets ---------------------------------------------------------------------------------------------------

in_source() { aws_or_die s3api "$1" --bucket "$SRC_BUCKET" --expected-bucket-owner "$SRC_BUCKET_OWNER" "${@:2}"; }

in_mirror() { aws_or_die s3api "$1" --bucket "$DST_BUCKET" --expected-bucket-owner "$DST_BUCKET_OWNER" "${@:2}"; }

# --- putting and changing -------------------------------------------------------------------------------------------

body_of() { printf '%s/body.%s\n' "$VERIFY_DIR" "$1"; }

random_bytes() { head -c "$1" /dev/urandom; }

# make_body NAME THRESHOLD: the bytes of an object, into its file.
make_body() {
  case "$1" in
    empty | trailing) : ;;
    encoded) printf 'as it was put\n' | gzip -nc ;;
    multipart) random_bytes $(($2 + 4 * 1024 * 1024 + 1)) ;;
    large) random_bytes "$VERIFY_LARGE_PART_BYTES" ;;
    overwritten) printf 'version 1 of %s\n' "$VERIFY_FOLDER" ;;
    *) printf '%s of %s\n' "$1" "$VERIFY_FOLDER" ;;
  esac >"$(body_of "$1")"
}

# put_case NAME
put_case() {
  local options=()
  case "$1" in
    large)
      make_large
      return
      ;;
    tagged) options=(--tagging 'colour=blue&run=verify') ;;
    encoded)
      options=(--content-encoding gzip --content-type 'text/plain; charset=utf-8' --cache-control max-age=60
        --content-disposition inline --content-language en --metadata 'colour=blue,made-by=sync.sh verify')
      ;;
    changed) options=(--content-type text/plain --metadata colour=blue) ;;
  esac
  in_source put-object --key "${CASE_KEY[$1]}" --body "$(body_of "$1")" ${options[@]+"${options[@]}"} \
    >"$VERIFY_DIR/put.$1"
}

# copy_source KEY: as it is, because the CLI encodes it (botocore, handlers.py, _quote_source_header).
copy_source() { printf '%s/%s\n' "$SRC_BUCKET" "$1"; }

change_case() {
  case "$1" in
    overwritten)
      printf 'version 2 of %s\n' "$VERIFY_FOLDER" >"$(body_of "$1")"
      put_case "$1"
      ;;
    changed) # its tags, of which it has none, are not looked at, so that no right to read tags is needed
      in_source copy-object --key "${CASE_KEY[$1]}" --copy-source "$(copy_source "${CASE_KEY[$1]}")" \
        --metadata-directive REPLACE --tagging-directive REPLACE --content-type text/csv --metadata colour=red >/dev/null
      ;;
    deleted) in_source delete-object --key "${CASE_KEY[$1]}" >/dev/null ;;
  esac
}

# --- what is tried ---------------------------------------------------------------------------------------------------

# refusal_of OPERATION OPTION...: prints the code with which the destination refuses it, or nothing.
refusal_of() {
  try_aws s3api "$1" --bucket "$DST_BUCKET" --expected-bucket-owner "$DST_BUCKET_OWNER" "${@:2}" >/dev/null || error_code
}

# Copies, whole and as a part, on the condition that the source is what it is not. S3 is to refuse both.
try_conditions() {
  local key=${VERIFY_FOLDER}refused.txt source upload copy part
  source=$(copy_source "${CASE_KEY[small]}")
  copy=$(refusal_of copy-object --key "$key" --copy-source "$source" --copy-source-if-match '"another"')
  [[ -n $copy ]] || in_mirror delete-object --key "$key" >/dev/null
  upload=$(in_mirror create-multipart-upload --key "$key" | jq -r .UploadId)
  part=$(refusal_of upload-part-copy --key "$key" --copy-source "$source" --copy-source-if-match '"another"' \
    --upload-id "$upload" --part-number 1)
  in_mirror abort-multipart-upload --key "$key" --upload-id "$upload"
  jq -n --arg copy "$copy" --arg part "$part" '{$copy, $part}' >"$VERIFY_DIR/conditions"
}

# --- the large object -----------------------------------------------------------------------------------------------

# copy_part UPLOAD KEY SEED NUMBER
copy_part() {
  in_source upload-part-copy --upload-id "$1" --key "$2" --copy-source "$(copy_source "$3")" --part-number "$4" \
    | jq -c --argjson number "$4" '{PartNumber: $number, ETag: .CopyPartResult.ETag}' >"$VERIFY_DIR/part.$4"
}

# Made inside S3: one part is uploaded, and copied as often as it takes.
make_large() {
  local key=${CASE_KEY[large]} seed=${CASE_KEY[large]}.part upload first number last jobs at_once=8
  in_source put-object --key "$seed" --body "$(body_of large)" >/dev/null
  upload=$(in_source create-multipart-upload --key "$key" | jq -r .UploadId)
  for ((first = 1; first <= VERIFY_LARGE_PARTS; first += at_once)); do
    last=$((first + at_once - 1)) jobs=()
    for ((number = first; number <= last && number <= VERIFY_LARGE_PARTS; number++)); do
      copy_part "$upload" "$key" "$seed" "$number" &
      jobs+=("$!")
    done
    for number in "${jobs[@]}"; do wait "$number"; done
    say "verify: large object: $((last < VERIFY_LARGE_PARTS ? last : VERIFY_LARGE_PARTS)) of $VERIFY_LARGE_PARTS parts"
  done
  cat "$VERIFY_DIR"/part.* | jq -s '{Parts: sort_by(.PartNumber)}' >"$VERIFY_DIR/parts.json"
  in_source complete-multipart-upload --upload-id "$upload" --key "$key" \
    --multipart-upload "file://$VERIFY_DIR/parts.json" >/dev/null
}

# --- what the copies are like ---------------------------------------------------------------------------------------

# get_side in_source|in_mirror NAME: the answer of GetObject and the bytes, into files; of the large one only the bytes
# on both sides of its first boundary.
get_side() {
  local range=() file=$VERIFY_DIR/$1.$2
  [[ $2 != large ]] \
    || range=(--range "bytes=$((VERIFY_LARGE_PART_BYTES - 1024))-$((VERIFY_LARGE_PART_BYTES + 1023))")
  "$1" get-object --key "${CASE_KEY[$2]}" ${range[@]+"${range[@]}"} "$file.body" >"$file.json"
}

get_source() { get_side in_source "$1"; }

get_mirror() { get_side in_mirror "$1"; }

# compared_bytes NAME: equal or different. An object of --large is compared with itself on the other side only.
compared_bytes() {
  local want
  want=$(body_of "$1")
  [[ $1 != large ]] || want=$VERIFY_DIR/in_source.large.body
  if cmp -s "$want" "$VERIFY_DIR/in_source.$1.body" && cmp -s "$want" "$VERIFY_DIR/in_mirror.$1.body"; then
    printf 'equal\n'
  else
    printf 'different\n'
  fi
}

# compared_metadata NAME: equal, or what differs. What a copy carries: mirror/protocol/objects.py.
compared_metadata() {
  cat "$VERIFY_DIR/in_source.$1.json" "$VERIFY_DIR/in_mirror.$1.json" | jq -rs '
    def carried: {ContentType, CacheControl, ContentDisposition, ContentEncoding, ContentLanguage}
      + {Metadata: (.Metadata // {} | del(.["sync-source"]))};
    (.[0] | carried) as $want | (.[1] | carried) as $have
    | ($have.Metadata["sync-content-encoding"] == $want.ContentEncoding and $want.ContentEncoding != null) as $moved
    | ($have | if $moved then .ContentEncoding = $want.ContentEncoding | del(.Metadata["sync-content-encoding"])
        else . end) as $have
    | [$want | keys[] | select($want[.] != $have[.])]
      + (if .[1].Metadata["sync-source"] then [] else ["sync-source"] end)
    | if . == [] then "equal" else "different: " + join(", ") end'
}

# compared_checksum NAME: equal, different, none (of the copy alone), or - if nothing can be compared. The CLI asks for
# checksums by itself since 2025 (2.23, 1.37), and compares each with the bytes that it gets.
compared_checksum() {
  jq -rs 'def whole: if .ChecksumType == "FULL_OBJECT"
      then with_entries(select(.key | startswith("Checksum"))) | del(.ChecksumType) else {} end;
    (.[0] | whole) as $want | (.[1] | whole) as $have | [$want | keys[] | select($have[.])] as $both
    | if $both != [] then if all($both[]; $want[.] == $have[.]) then "equal" else "different" end
      elif $want != {} and .[1].ChecksumType == null then "none" else "-" end' \
    "$VERIFY_DIR/in_source.$1.json" "$VERIFY_DIR/in_mirror.$1.json"
}

# changed_etags: those of each copy that was written twice, as a JSON list {first, last}; of one, the bytes are the same.
changed_etags() {
  local name
  for name in overwritten changed; do
    [[ ${CASE_RESULT[$name]} != arrived || ! -s $VERIFY_DIR/in_mirror.$name.json ]] \
      || jq -s --arg key "${CASE_KEY[$name]}" '(.[0][] | select(.key == $key) | .etag) as $first
        | {first: $first, last: (.[1].ETag | gsub("\""; ""))}' "$VERIFY_DIR/first.mirror" "$VERIFY_DIR/in_mirror.$name.json"
  done | jq -s .
}
