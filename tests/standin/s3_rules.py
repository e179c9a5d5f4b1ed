"""The rules of S3 that this project relies on, for a source and a directory bucket: see Rule in faces.py."""

import hashlib
from collections.abc import Callable
from operator import methodcaller as do
from typing import Any

from faces import CLOUD, KEY, MIRROR, MODEL, SOURCE, STANDIN, WRONG, Buckets, Rule, left_out, outcome, steps
from fakes import LARGE

from mirror.model.services import MIN_PART_SIZE

REPLACED = {"MetadataDirective": "REPLACE", "Metadata": {"label": "other"}}
MANY = [f"data/{letter}" for letter in "abcde"]
TREE = ["a", "a-b", "a/1", "a/2", "a/b/1", "b", "d e/é&<", "z/1"]
OTHER_OWNER = {"ExpectedBucketOwner": "999999999999"}


# ---------------------------------------------------------------- what was done before


def with_copies(keys: list[str]) -> Callable[[Any], Any]:
    return steps(*(step for key in keys for step in (do("put", "x", key=key), do("copy", key))))


nothing = steps()
new, large = do("put", "x"), do("put", "x", LARGE)
copied = steps(new, do("copy"))
overwritten = steps(copied, do("put", "y", LARGE))
begun = steps(large, do("create"))
in_parts = steps(begun, do("part", 1), do("part", 2))
completed, aborted = steps(in_parts, do("complete", 1, 2)), steps(in_parts, do("abort"))
over_a_copy = steps(copied, in_parts)
many, tree = with_copies(MANY), with_copies(TREE)
many_uploads = steps(*(do("call", "create_multipart_upload", Key=key, **MIRROR)
                       for key in ("data/a", "data/a", "data/b", "e/c")))  # fmt: skip
tagged, archived = do("put", "x", Tagging="k=v"), do("put", "x", StorageClass="GLACIER")
annotated = steps(new, do("annotate"))
with_headers = do("put", "x", CacheControl="no-cache", ContentEncoding="gzip")
summed = do("put", "x", ChecksumAlgorithm="CRC32")


def versioned(b: Buckets) -> None:
    """Two versions, and a delete marker over them."""
    b.keep_versions()
    b.put("x")
    b.put("y")
    b.marker = b.call("delete_object", Key=KEY, **SOURCE)["VersionId"]


# ---------------------------------------------------------------- calls that are longer than a line


def copied_back(b: Buckets) -> None:
    *_, oldest = b.call("list_object_versions", **SOURCE)["Versions"]
    b.copy(CopySource=SOURCE | {"Key": KEY, "VersionId": oldest["VersionId"]}, **SOURCE)


def etags_of_writes(b: Buckets) -> int:
    """How many different ones three copies and their source have."""
    etags = {b.etag(SOURCE)}
    for _ in range(3):
        b.copy()
        etags.add(b.etag())
    return len(etags)


def overwritten_while_copied(b: Buckets) -> list[Any]:
    with b.copying(CopySourceIfMatch=b.etag(SOURCE)) as outcomes:
        b.put("y")
    return outcomes


def removed_while_copied(b: Buckets) -> list[Any]:
    with b.copying() as outcomes:
        b.remove()
    return outcomes


def written_while_copied(b: Buckets) -> list[Any]:
    with b.copying(IfNoneMatch="*") as outcomes:
        b.complete(1, 2)
    return outcomes


def part_after(ends: Callable[[Buckets], None]) -> Callable[[Buckets], list[Any]]:
    """A part that was under way when its upload ended, and how it ended itself."""

    def call(b: Buckets) -> list[Any]:
        with b.during("UploadPartCopy", lambda: b.part(2)) as outcomes:
            ends(b)
        return outcomes

    return call


def part_again(b: Buckets) -> None:
    """Complete with the ETag that the part had."""
    first = b.parts[1]
    b.part(1)
    b.parts[1] = first
    b.complete(1, 2)


def of_a_gone_upload(b: Buckets) -> list[str]:
    calls = [lambda: b.part(1), lambda: b.complete(1, 2), b.abort, b.listed_parts]
    return sorted({outcome(call) for call in calls})


def on_both(**arguments: Any) -> Callable[[Buckets], list[Any]]:
    """CopyObject and CreateMultipartUpload with these."""
    return lambda b: [outcome(lambda: b.copy(**arguments)), outcome(lambda: b.create(**arguments))]


def by_pages(bucket: dict[str, str], **arguments: str) -> Callable[[Buckets], Any]:
    """What is listed, in pages of any size: for a directory bucket sorted, and whether it came in that order."""

    def call(b: Buckets) -> Any:
        keys, prefixes = b.walked(bucket, 1000, **arguments)
        for page in (3, 2, 1):
            found, folders = b.walked(bucket, page, **arguments)
            assert (found, sorted(folders)) == (keys, sorted(prefixes))
        return (keys, prefixes) if bucket is SOURCE else (sorted(keys), sorted(prefixes), keys == sorted(keys))

    return call


def headers_of_copy(b: Buckets) -> list[str | None]:
    found = b.look()
    return [found.get(name) for name in ("CacheControl", "ContentEncoding")]


def deleted_one_by_one(b: Buckets) -> tuple[list[str], list[str]]:
    keys = [{"Key": KEY, "ETag": WRONG}, {"Key": "data/a"}, {"Key": "missing"}]
    answer = b.call("delete_objects", Delete={"Objects": keys}, **MIRROR)
    return [entry["Key"] for entry in answer["Deleted"]], [entry["Code"] for entry in answer["Errors"]]


def kinds_of_buckets(b: Buckets) -> list[list[str]]:
    answers = b.call("list_buckets"), b.call("list_directory_buckets")
    return [[bucket["Name"] for bucket in answer["Buckets"]] for answer in answers]


def in_utf8(word: str) -> Callable[[Buckets], str]:
    """User metadata as it is shown that was sent in this form."""

    def call(b: Buckets) -> str:
        b.call("put_object", Key=KEY, Metadata={"name": word}, **SOURCE)
        shown: str = b.look(SOURCE)["Metadata"]["name"]
        return shown

    return call


COPY, DIRECTIVE = "API, CopyObject", "API, CopyObject, MetadataDirective"
PART, PARTS, COMPLETE = "API, UploadPartCopy", "API, CompletedPart", "API, CompleteMultipartUpload"
RANGE, ABORT, UPLOADS = "API, UploadPartCopy, CopySourceRange", "API, AbortMultipartUpload", "API, ListMultipartUploads"
WRITES, DELETES, VERSIONS = "Guide, conditional-writes", "Guide, conditional-deletes", "Guide, DeleteMarker"
LISTING, DIFFERENCES = "API, ListObjectsV2", "Guide, s3-express-differences"
INTEGRITY, METADATA = "Guide, checking-object-integrity", "Guide, UsingMetadata"
OWNER, HEAD = "Guide, bucket-owner-condition", "API, HeadObject"

LOOKS = (
    Rule("no object is 404", HEAD, nothing, Buckets.head, "404"),
    Rule("without an object there is nothing to read", "API, GetObject", nothing,
         lambda b: b.call("get_object", Key=KEY, Range="bytes=0-0", **MIRROR), "NoSuchKey"),
    *left_out(f"{MODEL}, {CLOUD}", "reads whatever it is asked for: that no worker reads an object is a rule of ours",
        Rule("the bytes of an object are not read", "the rule of this project", new,
             lambda b: b.call("get_object", Key=KEY, **SOURCE), "NotImplemented")),
    Rule("a copy in parts has the size of its source", COMPLETE, completed, Buckets.head,
         (LARGE, {"label": "other"}), "x other"),
    Rule("a read may depend on the ETag", "API, GetObject", new,
         lambda b: b.call("get_object", Key=KEY, Range="bytes=0-0", IfMatch=WRONG, **SOURCE), "PreconditionFailed"),
    Rule("a bucket that is not there is 404 too", HEAD, nothing, lambda b: b.look({"Bucket": "missing"}), "404"),
    *left_out(MODEL, "has one kind of bytes, of one storage class",
        Rule("the ETag of a small object is its MD5", "API, Object, ETag", new, lambda b: b.etag(SOURCE),
             f'"{hashlib.md5(b"x").hexdigest()}"'),
        Rule("a look shows the storage class", HEAD, archived, lambda b: b.look(SOURCE)["StorageClass"], "GLACIER"),
        Rule("an archived object is not read", "API, GetObject", archived,
             lambda b: b.call("get_object", Key=KEY, Range="bytes=0-0", **SOURCE), "InvalidObjectState"),
        Rule("an empty object has no first byte", "API, GetObject", lambda b: b.put(""),
             lambda b: b.call("get_object", Key=KEY, Range="bytes=0-0", **SOURCE), "InvalidRange")),
    *left_out(MODEL, "has no checksums",
        Rule("a checksum is not shown unless it is asked for", f"{HEAD}, ChecksumMode", summed,
             lambda b: b.checksums(SOURCE, ChecksumMode="DISABLED"), {}),
        Rule("HeadObject shows the checksum if asked", f"{HEAD}, ChecksumMode", summed, lambda b: b.checksums(SOURCE),
             {"ChecksumCRC32": "jNwWgw==", "ChecksumType": "FULL_OBJECT"}),
        Rule("a copy has the checksum of its source", f"{COPY}, ChecksumAlgorithm", summed,
             steps(do("copy"), do("checksums")),
             {"ChecksumCRC32": "jNwWgw==", "ChecksumType": "FULL_OBJECT"}, "x")),
    *left_out(f"{MODEL}, {CLOUD}", "computes no checksums of copied parts",
        Rule("S3 makes one of an upload", INTEGRITY, completed, lambda b: sorted(b.checksums()),
             ["ChecksumCRC64NVME", "ChecksumType"], "x other")),
    *left_out(f"{MODEL}, {CLOUD}", "keeps metadata as it was sent",
        Rule("metadata beyond ASCII is stored decoded", METADATA, nothing, in_utf8("=?UTF-8?B?w4QgYl8/?="),
             "=?UTF-8?Q?=C3=84_b=5F=3F?="),
        Rule("what cannot be printed comes in base64", METADATA, nothing, in_utf8("=?UTF-8?Q?=C3=A9=01?="),
             "=?UTF-8?B?w6kB?=")),
)  # fmt: skip

COPIES = (
    Rule("a copy of what is gone is refused", COPY, copied, steps(do("remove"), do("copy")), "NoSuchKey", "x"),
    Rule("a copy may have other metadata", DIRECTIVE, new, lambda b: b.copy(**REPLACED), None, "x other"),
    Rule("other metadata is not taken without REPLACE", DIRECTIVE, new,
         lambda b: b.copy(Metadata={"label": "other"}), None, "x"),
    Rule("each write has an ETag of its own", DIFFERENCES, new, etags_of_writes, 4, "x"),
    Rule("a copy of another version than it names is refused", COPY, copied,
         lambda b: b.copy(CopySourceIfMatch=b.etag()), "PreconditionFailed", "x"),
    Rule("a copy that depends on nothing finds something", WRITES, overwritten,
         lambda b: b.copy(IfNoneMatch="*"), "PreconditionFailed", "x"),
    Rule("a copy that depends on one object finds another", WRITES, overwritten,
         lambda b: b.copy(IfMatch=WRONG), "PreconditionFailed", "x"),
    Rule("a copy that depends on one object finds none", WRITES, new, lambda b: b.copy(IfMatch=WRONG), "NoSuchKey"),
    Rule("IfNoneMatch takes no ETag", COPY, copied, lambda b: b.copy(IfNoneMatch=b.etag()), "NotImplemented", "x"),
    *left_out(CLOUD, "answers at once: nothing happens while it copies",
        Rule("a copy is of what the source was when it began", COPY, new, overwritten_while_copied, [None], "x"),
        Rule("a copy ends although its source is gone", COPY, new, removed_while_copied, [None], "x"),
        Rule("what a copy depends on is looked at when it ends", WRITES, in_parts, written_while_copied,
             ["PreconditionFailed"], "x other")),
    Rule("what is just small enough is", COPY, lambda b: b.put("x", b.most_copied), Buckets.copy, None, "x"),
    Rule("user metadata may have 2 KB", METADATA, new, lambda b: b.copy(
         MetadataDirective="REPLACE", Metadata={"label": "other", "n": "v" * 2037}), None, "x other"),
    *left_out(MODEL, "copies whatever it has, to the other bucket",
        Rule("a copy has the headers of its source", DIRECTIVE, with_headers,
             steps(do("copy"), headers_of_copy), ["no-cache", "gzip"], "x"),
        Rule("or none of them", DIRECTIVE, with_headers, steps(do("copy", **REPLACED), headers_of_copy),
             [None, None], "x other"),
        Rule("a copy onto itself has to change something", DIRECTIVE, new, lambda b: b.copy(**SOURCE),
             "InvalidRequest"),
        Rule("a copy onto itself with other metadata is taken", DIRECTIVE, new,
             lambda b: b.copy(**SOURCE, **REPLACED), None),
        Rule("what is too large is not copied at once", COPY, lambda b: b.put("x", b.most_copied + 1), Buckets.copy,
             "InvalidRequest"),
        Rule("a source bucket that is missing is named", COPY, new,
             lambda b: b.copy(CopySource={"Bucket": "missing", "Key": KEY}), "NoSuchBucket"),
        Rule("the source is URL-encoded", COPY, lambda b: b.put("x", key="a b+c"),
             lambda b: b.copy(CopySource=SOURCE | {"Key": "a b+c"}), None, "x"),
        Rule("an archived source is not copied", COPY, archived, Buckets.copy, "InvalidObjectState"),
        Rule("once it is restored it is", "API, RestoreObject", archived, steps(do("restore"), do("copy")),
             None, "x"),
        Rule("and no more", METADATA, new, lambda b: b.copy(
             MetadataDirective="REPLACE", Metadata={"label": "other", "n": "v" * 2038}), "MetadataTooLarge"),
        Rule("the owner of the destination may be named", OWNER, new, lambda b: b.copy(**OTHER_OWNER), "AccessDenied"),
        Rule("the owner of the source may be named", OWNER, new,
             lambda b: b.copy(ExpectedSourceBucketOwner="999999999999"), "AccessDenied"),
        Rule("the owner is named in listings too", OWNER, new, lambda b: b.walked(SOURCE, **OTHER_OWNER),
             "AccessDenied"),
        Rule("a PUT may depend on finding nothing", WRITES, copied,
             lambda b: b.call("put_object", Key=KEY, IfNoneMatch="*", **MIRROR), "PreconditionFailed", "x"),
        Rule("a PUT may depend on an object", WRITES, nothing,
             lambda b: b.call("put_object", Key=KEY, IfMatch=WRONG, **SOURCE), "NoSuchKey")),
)  # fmt: skip

# What a directory bucket refuses: arguments of CopyObject and CreateMultipartUpload, and the error code.
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ACL": "private"}, "NotImplemented"),
    ({"ObjectLockMode": "GOVERNANCE"}, "NotImplemented"),
    ({"BucketKeyEnabled": True}, "NotImplemented"),
    ({"Tagging": "a=1", "TaggingDirective": "REPLACE"}, "NotImplemented"),
    ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, "InvalidRequest"),
    ({"ServerSideEncryption": "aws:kms:dsse"}, "InvalidRequest"),
    ({"StorageClass": "STANDARD"}, "InvalidStorageClass"),
)

DIRECTORY_BUCKETS = left_out(MODEL, "has no such settings",
    *(Rule(f"a directory bucket takes no {next(iter(given))}", DIFFERENCES, new,
           on_both(**given) if "TaggingDirective" not in given else (lambda b, given=given: [
               outcome(lambda: b.copy(**given)), outcome(lambda: b.create(Tagging="a=1"))]), [code, code])
      for given, code in REFUSED),
    *(Rule(f"a directory bucket has no {operation}", DIFFERENCES, copied,
           lambda b, operation=operation, given=given: b.call(operation, **MIRROR, **given), "NotImplemented", "x")
      for operation, given in {
          "get_bucket_versioning": {}, "get_bucket_notification_configuration": {}, "get_bucket_tagging": {},
          "get_bucket_location": {}, "list_object_versions": {}, "list_objects": {},
          "get_object_tagging": {"Key": KEY},
          "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
      }.items()),
    Rule("a directory bucket has a storage class of its own", COPY, new,
         lambda b: (b.copy(), b.look()["StorageClass"])[1], "EXPRESS_ONEZONE", "x"),
    Rule("a directory bucket takes no Content-MD5", DIFFERENCES, nothing, lambda b: b.call(
         "put_object", Key=KEY, Body=b"", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==", **MIRROR), "InvalidRequest"),
    Rule("tags are not copied to it", f"{COPY}, TaggingDirective", tagged, Buckets.copy, "NotImplemented"),
    Rule("an object is copied without its tags", f"{COPY}, TaggingDirective", tagged,
         lambda b: b.copy(TaggingDirective="REPLACE"), None, "x"),
    Rule("annotations are not copied to it", f"{COPY}, AnnotationDirective", annotated, Buckets.copy,
         "NotImplemented"),
    Rule("an object is copied without its annotations", f"{COPY}, AnnotationDirective", annotated,
         lambda b: b.copy(AnnotationDirective="EXCLUDE"), None, "x"),
    Rule("a key may have 1,024 bytes", "Guide, object-keys", nothing,
         lambda b: b.call("put_object", Key="é" * 513, **MIRROR), "KeyTooLongError"),
    Rule("a general purpose bucket has no sessions", "API, CreateSession", nothing,
         lambda b: b.call("create_session", **SOURCE), "InvalidRequest"),
    *left_out(STANDIN, "makes, lists and deletes no buckets, which workers never ask for",
        Rule("a directory bucket needs its configuration", "API, CreateBucket", nothing,
             lambda b: b.call("create_bucket", Bucket="other--use1-az4--x-s3"), "MalformedXML"),
        Rule("the two kinds of bucket are listed apart", "API, ListDirectoryBuckets", nothing, kinds_of_buckets,
             [[SOURCE["Bucket"]], [MIRROR["Bucket"]]]),
        Rule("a bucket with objects is not deleted", "API, DeleteBucket", copied,
             lambda b: b.call("delete_bucket", **MIRROR), "BucketNotEmpty", "x"),
        Rule("a directory bucket with open uploads is not deleted", "Guide, s3-express-using-multipart-upload", begun,
             lambda b: b.call("delete_bucket", **MIRROR), "BucketNotEmpty", "upload")),
)  # fmt: skip

DELETIONS = (
    Rule("a delete of nothing is done", "API, DeleteObject", nothing, Buckets.delete, None),
    Rule("a delete that depends on one object finds another", DELETES, copied,
         lambda b: b.delete(IfMatch=WRONG), "PreconditionFailed", "x"),
    Rule("a delete that depends on one object finds none", DELETES, nothing,
         lambda b: b.delete(IfMatch=WRONG), "NoSuchKey"),
    *left_out(f"{MODEL}, {STANDIN}", "deletes one key at a time, as workers do",
        Rule("each key of a batch is answered by itself", "API, DeleteObjects", steps(copied, many),
             deleted_one_by_one, (["data/a", "missing"], ["PreconditionFailed"]), "x")),
    *left_out(MODEL, "keeps one version of a key",
        Rule("a delete puts a marker over the object", VERSIONS, versioned, lambda b: b.look(SOURCE), "404"),
        Rule("what is under a marker is not listed", VERSIONS, versioned, lambda b: b.listed(SOURCE), []),
        Rule("what is under a marker is not copied", COPY, versioned, Buckets.copy, "NoSuchKey")),
    *left_out(f"{MODEL}, {STANDIN}", "deletes no version by its name, which no worker does",
        Rule("without its marker the object is back", VERSIONS, versioned, lambda b: (
             b.call("delete_object", Key=KEY, VersionId=b.marker, **SOURCE), b.copy())[1], None, "y"),
        Rule("an older version is copied onto the object", "Guide, RestoringPreviousVersions", versioned,
             steps(copied_back, do("copy")), None, "x")),
)  # fmt: skip

MULTIPART = (
    Rule("an upload shows no object", COMPLETE, in_parts, Buckets.head, "404", "upload"),
    Rule("its parts replace the object", COMPLETE, over_a_copy, lambda b: b.complete(1, 2), None, "x other"),
    Rule("parts of another size than is named are refused", COMPLETE, in_parts,
         lambda b: b.complete(1, MpuObjectSize=LARGE), "InvalidRequest", "upload"),
    Rule("an object needs parts", COMPLETE, in_parts, lambda b: b.complete(), "MalformedXML", "upload"),
    Rule("parts have to be in order", PARTS, in_parts, lambda b: b.complete(2, 1), "InvalidPartOrder", "upload"),
    Rule("parts may have no gap", PARTS, in_parts,
         steps(do("part", 3), do("complete", 1, 3)), "InvalidPartOrder", "upload"),
    Rule("a part that is not there is refused", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, 3), "InvalidPart", "upload"),
    *left_out(CLOUD, "the ETag of a part is the MD5 of its bytes, so that the same part again has the same",
        Rule("a part that was replaced is refused", COMPLETE, in_parts, part_again, "InvalidPart", "upload")),
    Rule("a part of another version than it names is refused", PART, in_parts,
         lambda b: b.part(1, CopySourceIfMatch=WRONG), "PreconditionFailed", "upload"),
    Rule("a part of nothing is refused", PART, in_parts, steps(do("remove"), do("part", 1)), "NoSuchKey", "upload"),
    Rule("parts may be of two versions", PART, in_parts,
         steps(do("put", "y", LARGE), do("part", 2), do("complete", 1, 2)), None, "x y other"),
    Rule("an upload that depends on nothing finds something", COMPLETE, over_a_copy,
         lambda b: b.complete(1, 2, IfNoneMatch="*"), "PreconditionFailed", "x upload"),
    Rule("an upload that depends on one object finds another", COMPLETE, over_a_copy,
         lambda b: b.complete(1, 2, IfMatch=WRONG), "PreconditionFailed", "x upload"),
    Rule("an upload that depends on one object finds none", COMPLETE, in_parts,
         lambda b: b.complete(1, 2, IfMatch=WRONG), "NoSuchKey", "upload"),
    *left_out(CLOUD, "answers a completion that comes again as before, as S3 does for some time",
        Rule("a completed upload is gone", COMPLETE, completed, of_a_gone_upload, ["NoSuchUpload"], "x other")),
    Rule("an aborted upload is gone", ABORT, aborted, of_a_gone_upload, ["NoSuchUpload"]),
    Rule("copies leave an upload alone", "API, CreateMultipartUpload", in_parts, Buckets.copy, None, "x upload"),
    Rule("deletes leave an upload alone", "API, CreateMultipartUpload", over_a_copy, Buckets.delete, None, "upload"),
    Rule("parts are listed", "API, ListParts", in_parts, Buckets.listed_parts,
         [(1, True, MIN_PART_SIZE), (2, True, MIN_PART_SIZE)], "upload"),
    Rule("parts are listed by pages", "API, ListParts", in_parts, lambda b: b.listed_parts(page=1),
         [(1, True, MIN_PART_SIZE), (2, True, MIN_PART_SIZE)], "upload"),
    *left_out(MODEL, "has two parts of the smallest size, and only those",
        *(Rule(f"of three parts, number {small} may not be small", COMPLETE, steps(in_parts, do("part", 3)),
               steps(do("part", small, CopySourceRange="bytes=0-9"), do("complete", 1, 2, 3)),
               "EntityTooSmall", "upload") for small in (1, 2)),
        Rule("a small source has no ranges", RANGE, steps(new, do("create")),
             lambda b: b.part(1, CopySourceRange="bytes=0-0"), "InvalidRequest", "upload"),
        Rule("a range is inside of its source", RANGE, begun,
             lambda b: b.part(1, CopySourceRange=f"bytes={MIN_PART_SIZE}-{LARGE}"), "InvalidArgument", "upload"),
        Rule("a range has two ends", RANGE, begun, lambda b: b.part(1, CopySourceRange="bytes=0-"),
             "InvalidArgument", "upload"),
        Rule("a part is no larger than a copy", "Guide, qfacts",
             lambda b: (b.put("x", b.most_copied + 1), b.create()), lambda b: b.part(1, CopySourceRange=None),
             "InvalidRequest", "upload"),
        Rule("there are 10,000 parts at most", "Guide, qfacts", begun,
             lambda b: b.part(10_001, CopySourceRange="bytes=0-9"), "InvalidArgument", "upload")),
    *left_out(f"{MODEL}, {CLOUD}", "reads a part and has it in one step",
        Rule("a part lands after an abort, which has to come again", ABORT, begun, part_after(Buckets.abort),
             [None], "upload"),
        Rule("a part does not land in a completed upload", PART, steps(begun, do("part", 1)),
             part_after(lambda b: b.complete(1)), ["NoSuchUpload"], "x other")),
    Rule("uploads are listed by folder", UPLOADS, in_parts, Buckets.uploads, [KEY], "upload"),
    Rule("uploads are not listed by half a name", f"{UPLOADS}, Prefix", in_parts,
         lambda b: b.uploads("data/k"), "InvalidRequest", "upload"),
    *left_out(MODEL, "lists the uploads of one key, on one page",
        Rule("uploads of a directory bucket are listed by pages", UPLOADS, many_uploads,
             lambda b: sorted(b.uploads("", page=1)), ["data/a", "data/a", "data/b", "e/c"], "upload upload upload")),
)  # fmt: skip

LISTINGS = (
    Rule("objects are not listed by half a name", LISTING, copied,
         lambda b: b.listed(MIRROR, "data/k"), "InvalidRequest", "x"),
    Rule("objects of the source are listed by half a name", LISTING, copied,
         lambda b: b.listed(SOURCE, "data/k"), [KEY], "x"),
    Rule("the source is listed in order", LISTING, many, lambda b: b.listed(SOURCE), MANY),
    Rule("the destination in no order", DIFFERENCES, many,
         lambda b: (sorted(b.listed(MIRROR, "data/")) == MANY, b.listed(MIRROR, "data/") == MANY), (True, False)),
    Rule("pages of any size show the source in order", LISTING, tree, by_pages(SOURCE), (TREE, [])),
    Rule("pages of any size show the destination once", LISTING, tree, by_pages(MIRROR), (TREE, [], False)),
    *left_out(MODEL, "has no folders",
        Rule("folders of the source", LISTING, tree, by_pages(SOURCE, Delimiter="/"),
             (["a", "a-b", "b"], ["a/", "d e/", "z/"])),
        Rule("folders in a folder of the source", LISTING, tree, by_pages(SOURCE, Delimiter="/", Prefix="a/"),
             (["a/1", "a/2"], ["a/b/"])),
        Rule("folders of the destination", LISTING, tree, lambda b: by_pages(MIRROR, Delimiter="/")(b)[:2],
             (["a", "a-b", "b"], ["a/", "d e/", "z/"])),
        Rule("folders in a folder of the destination", LISTING, tree,
             lambda b: by_pages(MIRROR, Delimiter="/", Prefix="a/")(b)[:2], (["a/1", "a/2"], ["a/b/"])),
        Rule("Mountpoint and PyTorch ask for RestoreStatus", "awslabs/mountpoint-s3, list_objects.rs", tree,
             by_pages(MIRROR, OptionalObjectAttributes=["RestoreStatus"]), (TREE, [], False)),
        Rule("a directory bucket has folders only", LISTING, tree, lambda b: b.walked(MIRROR, Delimiter="-"),
             "InvalidRequest"),
        Rule("a directory bucket shows the folders of uploads", f"{LISTING}, CommonPrefixes", begun,
             lambda b: [b.walked(MIRROR, Delimiter="/"), b.walked(MIRROR)], [([], ["data/"]), ([], [])], "upload")),
)  # fmt: skip

RULES = LOOKS + COPIES + DIRECTORY_BUCKETS + DELETIONS + MULTIPART + LISTINGS
