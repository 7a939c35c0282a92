"""What generated rules are made of: parts of a detection, each with values, and words for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyslm.packs.pack import Split


@dataclass(frozen=True)
class Part:
    """A condition on a slot of an event.

    field, modifier: as in a Sigma rule. slot: what of the event it looks at, by default the field. values: to choose
    from. before, after: what stands around a value in an event. words: with {v} for the values. most: the values in
    one rule. excludes: whether it can say which events are left out.
    """

    field: str
    modifier: str
    values: Mapping[Split, Sequence[str]]
    words: Mapping[Split, Sequence[str]]
    slot: str = ""
    before: Sequence[str] = ("",)
    after: Sequence[str] = ("",)
    most: int = 2
    excludes: bool = False

    @property
    def about(self) -> str:
        """The slot."""
        return self.slot or self.field


def _both(train: str, test: str) -> dict[Split, Sequence[str]]:
    return {"train": tuple(train.split("; ")), "test": tuple(test.split("; "))}


PROGRAMS = _both(
    r"\powershell.exe; \certutil.exe; \rundll32.exe; \regsvr32.exe; \mshta.exe; \wmic.exe; \schtasks.exe; \reg.exe; "
    r"\sc.exe; \bitsadmin.exe; \cscript.exe; \cmd.exe; \curl.exe; \rar.exe; \quser.exe; \systeminfo.exe; \bcdedit.exe",
    r"\wscript.exe; \msbuild.exe; \installutil.exe; \nltest.exe; \ntdsutil.exe; \forfiles.exe; \procdump.exe; \7z.exe",
)
PARENTS = _both(
    r"\WINWORD.EXE; \EXCEL.EXE; \outlook.exe; \w3wp.exe; \services.exe; \wmiprvse.exe; \teams.exe; \acrobat.exe",
    r"\POWERPNT.EXE; \onenote.exe; \sqlservr.exe; \tomcat9.exe; \chrome.exe",
)
SWITCHES = _both(
    "-enc; -urlcache; /create; /transfer; -hidden; -decode; scrobj.dll; -split; MiniDump; /quiet; -nop; javascript:; "
    "shadowcopy; Run /v; -Verb runas; bypass; DownloadString; /delete; recoveryenabled; /add; -hp; http://",
    "--lsass; /domain_trusts; -accepteula; ntds.dit; FromBase64String; vbscript:; -EncodedCommand; safeboot; /dclist",
)
FOLDERS = _both(
    "C:\\Users\\Public\\; C:\\Windows\\Temp\\; C:\\ProgramData\\; C:\\PerfLogs\\; C:\\Temp\\; D:\\Downloads\\",
    "C:\\Recycler\\; C:\\Intel\\; C:\\Users\\Default\\; E:\\",
)
ACCOUNTS = _both(
    "svc_backup; svc_deploy; svc_patch; it-admin; helpdesk1; svc_inventory; m.rossi; packager; jenkins; svc_av",
    "svc_sccm; ops-bot; l.varga; build7; svc_crl",
)
PATHS = _both(
    "/wp-login.php; /xmlrpc.php; /admin; /manager/html; /.git/config; /backup.zip; /phpinfo.php; /cgi-bin/test.cgi; "
    "/login.aspx; /shell.jsp; /config.bak; /api/debug",
    "/.env; /server-status; /solr/admin; /actuator/heapdump; /dump.sql; /setup.php",
)
QUERIES = _both(
    "union+select; ../; <script; cmd=; etc/passwd; xp_cmdshell; sleep(; or+1=1; file=http; %00; base64_decode; exec=",
    "..%2f; onerror=; benchmark(; waitfor+delay; php://input; jndi:; /bin/sh",
)
AGENTS = _both(
    "sqlmap; nikto; masscan; gobuster; python-requests; zgrab; curl/; wpscan; hydra",
    "nuclei; dirbuster; Nmap; feroxbuster; acunetix",
)
DOMAINS = _both(
    ".tunnel.example; .badcdn.example; .paste.example; .dyn.example.net; .mine.example; .c2.example; .freehost.example",
    ".drop.example; .relay.example.org; .leak.example; .bot.example",
)
LABELS = _both("xmr; beacon; exfil; wpad; _ldap; stage; dga", "keylog; payload; torproxy; implant")
CALLS = _both(
    "StopLogging; DeleteTrail; CreateAccessKey; AttachUserPolicy; PutBucketPolicy; ConsoleLogin; RunInstances; "
    "CreateUser; PutBucketAcl; DeleteFlowLogs; GetSecretValue; UpdateLoginProfile; AuthorizeSecurityGroupIngress",
    "DeactivateMFADevice; DeleteDetector; CreateLoginProfile; ModifySnapshotAttribute; PutUserPolicy; DeleteVpc",
)
SERVICES = _both("iam; s3; ec2; cloudtrail; kms; sts", "guardduty; lambda; secretsmanager")
ADDRESSES = _both(
    "203.0.113.7; 203.0.113.44; 198.51.100.9; 192.0.2.15; 192.0.2.200; 198.51.100.77",
    "203.0.113.131; 198.51.100.142; 192.0.2.120",
)
NETWORKS = _both("192.0.2.0/25; 198.51.100.0/25; 203.0.113.0/26", "192.0.2.128/25; 203.0.113.128/26")
LOGINS = _both("root; admin; oracle; postgres; git; deploy; guest", "ubuntu; jenkins; ftpuser; backup")
MESSAGES = _both(
    "Failed password; Accepted password; Accepted publickey; Failed publickey",
    "Accepted keyboard-interactive; Failed none; Accepted gssapi-with-mic",
)

_DIRS = ("C:\\Windows\\System32", "C:\\Program Files\\Suite", "C:\\Tools")
_IP_WORDS = _both("the address is {v}; it comes from {v}; from {v}", "the client is {v}; source {v}")

PARTS: Mapping[str, Sequence[Part]] = {
    "windows": (
        Part("Image", "endswith", PROGRAMS, _both("{v} is started; the program is {v}; someone runs {v}; {v} runs",
             "{v} gets executed; there is a process {v}"), before=_DIRS),
        Part("Image", "startswith", FOLDERS, _both("a program in {v} is started; something runs from {v}",
             "an executable below {v} is launched"), after=("tool.exe", "x\\upd.exe"), most=1),
        Part("CommandLine", "contains", SWITCHES, _both("the command line contains {v}; the arguments include {v}; "
             "the cmdline has {v}", "{v} occurs in the command; the args show {v}"),
             before=("job ", "/q "), after=(" out.txt", " 1")),
        Part("CommandLine", "contains|all", SWITCHES, _both("the command line has all of {v}; {v} are in the arguments",
             "the args combine {v}"), before=("job ",), after=(" 2",)),
        Part("ParentImage", "endswith", PARENTS, _both("the parent is {v}; it was started by {v}; {v} is the parent",
             "it is a child of {v}; {v} spawned it"), before=_DIRS),
        Part("User", "endswith", ACCOUNTS, _both("the user is {v}; {v} does it; it is run by {v}",
             "the account is {v}; {v} is logged on"), before=("CORP\\",), excludes=True, most=1),
    ),
    "web": (
        Part("cs-uri-stem", "endswith", PATHS, _both("the path ends with {v}; {v} is requested; somebody asks for {v}",
             "the page is {v}; {v} is hit"), before=("", "/app")),
        Part("cs-uri-query", "contains", QUERIES, _both("the query contains {v}; {v} is in the query string",
             "the parameters hold {v}"), before=("id=1&q=",), after=("", "x")),
        Part("cs-user-agent", "contains", AGENTS, _both("the user agent contains {v}; the agent is {v}",
             "{v} shows up as user agent"), before=("", "Mozilla/5.0 "), after=("", " 1.7")),
        Part("cs-method", "", _both("POST; PUT; DELETE", "PATCH; PROPFIND"), _both("the method is {v}; as {v} request",
             "the verb is {v}"), most=1),
        Part("sc-status", "", _both("200; 401; 500; 404", "302; 403"), _both("the status is {v}; answered {v}",
             "it returned {v}"), most=1),
        Part("c-ip", "cidr", NETWORKS, _both("the client is in {v}; it comes from {v}", "the source is within {v}"),
             excludes=True, most=1),
    ),
    "dns": (
        Part("query", "endswith", DOMAINS, _both("a name under {v} is looked up; the query ends with {v}",
             "someone resolves anything below {v}"), before=("a1", "mx.k7")),
        Part("query", "contains", LABELS, _both("the queried name contains {v}; {v} is in the name",
             "the looked-up host has {v} in it"), before=("a.", "x"), after=(".example", "3.example.net")),
        Part("record_type", "", _both("TXT; NULL; ANY; MX; A", "AXFR; SRV; CNAME"), _both(
             "the record type is {v}; the type is {v}", "it is a {v} query"), most=1),
        Part("src_ip", "", ADDRESSES, _IP_WORDS, excludes=True, most=1),
    ),
    "cloud": (
        Part("eventName", "", CALLS, _both("{v} is called; the event is {v}; somebody does {v}",
             "the API call is {v}; {v} was used"), most=3),
        Part("eventSource", "startswith", SERVICES, _both("the service is {v}; on {v}", "the event source is {v}"),
             after=(".amazonaws.com",), most=1),
        Part("errorCode", "", _both("AccessDenied; UnauthorizedOperation", "ThrottlingException; NoSuchEntity"), _both(
             "the error is {v}; it fails with {v}", "the error code says {v}"), most=1),
        Part("sourceIPAddress", "cidr", NETWORKS, _both("the address is in {v}; from {v}", "the IP is within {v}"),
             excludes=True, most=1),
        Part("userIdentity.userName", "", ACCOUNTS, _both("the user is {v}; {v} did it", "the identity is {v}"),
             excludes=True, most=1),
    ),
    "sshd": (
        Part("message", "startswith", MESSAGES, _both("sshd logs {v}; the message starts with {v}",
             "the log entry begins with {v}"), slot="verb"),
        Part("message", "contains", LOGINS, _both("the user is {v}; it is about {v}", "the account is {v}"),
             slot="user", before=(" for ",), after=(" ",), excludes=True),
        Part("message", "contains", ADDRESSES, _IP_WORDS, slot="ip", before=(" from ",), after=(" ",),
             excludes=True, most=1),
    ),
}  # fmt: skip
"""The parts of each source; the first ones say what an event is about."""

ORDINARY: Mapping[str, Mapping[str, Sequence[str]]] = {
    "windows": {
        "Image": ("C:\\Program Files\\Mail\\mail.exe", "C:\\Windows\\explorer.exe", "C:\\Program Files\\Crm\\crm.exe"),
        "CommandLine": ("mail.exe --start", "crm.exe /open 4", "explorer.exe"),
        "ParentImage": ("C:\\Windows\\explorer.exe", "C:\\Windows\\System32\\svchost.exe"),
        "User": ("CORP\\a.kim", "CORP\\n.orsi", "CORP\\d.ito"),
    },
    "web": {
        "cs-method": ("GET", "HEAD"),
        "cs-uri-stem": ("/", "/shop", "/news/2026"),
        "cs-uri-query": ("page=2", "lang=en", "q=shoes"),
        "sc-status": ("304", "206"),
        "c-ip": ("203.0.113.90", "198.51.100.200"),
        "cs-user-agent": ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Windows NT 10.0)"),
    },
    "dns": {
        "query": ("www.example.org", "mail.example.com", "api.example.net"),
        "record_type": ("AAAA", "PTR"),
        "answer": ("198.51.100.20", "-"),
        "src_ip": ("192.0.2.61", "192.0.2.62"),
    },
    "cloud": {
        "eventSource": ("logs.amazonaws.com", "rds.amazonaws.com"),
        "eventName": ("DescribeInstances", "ListBuckets", "GetObject"),
        "userIdentity.userName": ("audit-ro", "n.orsi", "app-web"),
        "sourceIPAddress": ("203.0.113.90", "198.51.100.200"),
        "errorCode": ("-",),
    },
    "sshd": {
        "verb": ("Connection closed by", "Disconnected by"),
        "user": ("k.lund", "n.orsi"),
        "ip": ("192.0.2.33", "192.0.2.34"),
    },
}
"""What the slots of events hold that a rule does not ask about."""

FRAMES: Mapping[Split, Sequence[str]] = {
    "train": (
        "Detect {source} where {body}.", "We need a rule for {source}: {body}", "alert when {body} ({source})",
        "{source}: {body}", "Please write a detection. {source}, {body}.", "rule pls, {source}, {body}",
        "I want to know about it if {body}. Logs: {source}",
    ),
    "test": (
        "How do I catch this in {source}? It is when {body}.", "Looking at {source}. Fire if {body}.",
        "{body} -> should raise an alert, {source}",
    ),
}  # fmt: skip
EXCLUSIONS: Mapping[Split, Sequence[str]] = {
    "train": ("but not if {body}", "unless {body}", "except when {body}"),
    "test": ("ignore it where {body}", "excluding cases where {body}"),
}
SOURCE_WORDS: Mapping[str, Mapping[Split, Sequence[str]]] = {
    "windows": _both("Windows process creation; process starts on Windows; windows processes", "Sysmon process events"),
    "web": _both("web server logs; the access log; web requests", "HTTP access logs"),
    "dns": _both("DNS queries; DNS logs; the resolver log", "name server logs"),
    "cloud": _both("AWS CloudTrail; cloud audit events; aws logs", "the CloudTrail audit log"),
    "sshd": _both("sshd logs; the ssh log; ssh logins", "the log of sshd"),
}
