//! Rules of every construct, to be asked of OPA too.

/// Rules that must be accepted.
pub(super) const ACCEPTED: &[&str] = &[
    // What operators write.
    r#"allow if input.peer.trust_domain == "osaka.example""#,
    r#"allow if input.peer.trust_domain in {"x.example", "y.example"}"#,
    r#"default allow := false
allow if { input.operation.kind == "http"; input.operation.method in ["GET", "HEAD"] }
deny contains "records are never deleted" if input.operation.method == "DELETE""#,
    r#"readers := {"/app", "/trusted"}
allow if input.peer.path in readers
deny contains msg if { not input.peer.path in readers; msg := sprintf("%s is no reader", [input.peer.path]) }"#,
    r#"roles := {"/app": "banned", "/trusted": "admin"}
role := roles[input.peer.path]
deny contains "banned" if role == "banned"
allow if role in {"admin", "user"}"#,
    r#"roles := {"/app": "banned"}
allow if { role := roles[input.peer.path]; not role in {"banned"} }"#,
    r#"grants := [{"path": "/app", "services": ["broker"]}, {"path": "/x", "services": ["a", "b"]}]
allow if { some grant in grants; grant.path == input.peer.path; input.service.name in grant.services }"#,
    r#"grants := [{"path": "/app", "services": ["broker"]}, {"path": "/x", "services": ["a"]}]
allow if { grants[i].path == input.peer.path; grants[i].services[_] == input.service.name }"#,
    r#"grants := {"broker": {"/app"}, "archive": {"/x"}}
allow if input.peer.path in grants[input.service.name]
allow if input.peer.path in data.renkei.authz.grants[input.service.name]"#,
    r#"deny contains "not from there" if not net.cidr_contains("10.0.0.0/8", input.source.ip)"#,
    r#"networks := ["10.0.0.0/8", "2001:db8::/32"]
inside if { some network in networks; net.cidr_contains(network, input.source.ip) }
deny contains "outside" if not inside"#,
    r#"allow if startswith(input.operation.path, "/v1/")
allow if endswith(input.peer.path, "app")
allow if contains(input.peer.path, "min/")"#,
    r#"allow if regex.match(`^/[a-z]+$`, input.peer.path)
deny contains "digits" if regex.match("\\d+$", input.operation.path)"#,
    r#"patterns := ["^/admin/", "^/trusted$"]
allow if { some p in patterns; regex.match(p, input.peer.path) }"#,
    r#"allow if glob.match("/*", ["/"], input.peer.path)
allow if glob.match("*.example", ["."], input.peer.trust_domain)
deny contains "deep" if glob.match("/admin/**", ["/"], input.peer.path)"#,
    r#"allow if { parts := split(input.peer.path, "/"); count(parts) == 3; parts[1] == "admin" }"#,
    r#"allow if { [_, first, _] = split(input.peer.path, "/"); upper(first) == "ADMIN" }"#,
    r#"allow if lower(trim_prefix(input.peer.path, "/")) == "app"
who := concat("@", [trim_suffix(input.peer.path, "p"), input.peer.trust_domain])"#,
    r#"weekend if time.weekday(1796027209317924020) in {"Saturday", "Sunday"}
day := time.weekday(1796027209317924020)
clock := time.clock(1796027209317924020)
date := time.date([1796027209317924020, "UTC"])
old := time.date(0 - 86400000000001)
until := time.parse_rfc3339_ns("2026-11-30T09:00:00.5+09:00")
deny contains "over" if time.now_ns() > time.parse_rfc3339_ns("2200-01-01T00:00:00Z")"#,
    r#"parts := split(input.peer.path, "/")
allow if every part in parts { part != "admin" }"#,
    r#"allow if every k, v in input.peer { startswith(v, "s"); k != "path" }
c if every x in input.none { x == 1 }
d if not input.peer.path == "/app""#,
    r#"trusted(peer) if peer.path == "/trusted"
trusted(peer) if peer.trust_domain == "x.example"
allow if trusted(input.peer)
deny contains "stranger" if not trusted(input.peer)"#,
    r#"level(path) := 3 if path == "/trusted"
level(path) := 2 if path == "/app"
else := 1 if startswith(path, "/admin")
else := 0
l := level("/trusted")
deny contains sprintf("level %d", [level(input.peer.path)]) if level(input.peer.path) < 2"#,
    r#"role := "admin" if input.peer.path == "/trusted"
else := "user" if input.peer.trust_domain == "osaka.example"
else := "none"
allow if role != "none""#,
    r#"default role := "none"
role := "admin" if input.peer.path == "/trusted"
allow if role == "admin""#,
    r#"allow if { some i, part in split(input.peer.path, "/"); i == 1; part == "admin" }
keys contains k if some k, _ in input.peer
values := {v | some v in input.peer}
pairs := {k: v | some k, v in input.peer}
upper_keys := [upper(k) | some k in ["b", "a"]]"#,
    r#"is_reader if endswith(input.peer.path, "app")
allow if is_reader with input.peer.path as concat("", [input.peer.path, "app"])
deny contains "x" if is_reader with input as {"peer": {"path": "app"}}
a if { x := input.peer.path with input.peer.path as "/z"; x == "/z" }
b if { x := input.peer.none with input.peer.none as input.none; x == 1 }
c if { input.new.deep == 1 with input.new.deep as 1; not input.new }
d if { some x in ["/app", "/z"]; is_reader with input.peer.path as x; x != "/z" }"#,
    r#"banned[input.service.name] contains "/app" if true
deny contains "b" if input.peer.path in banned.broker
allow if not "/app" in banned.broker
c if not "/x" in banned.other
d := banned.broker"#,
    r#"grants[p] contains s if { some p, s in {"/other": "broker", "/app": "x"} }
allow if grants[input.peer.path][input.service.name]"#,
    r#"ports[name] := port if some name, port in {"a": 1, "b": 2}
p := ports.a
q := ports[input.service.name]
r := {k | ports[k]}"#,
    r#"import input.peer as who
import input.service
allow if { who.path == "/app"; service.name == "broker" }"#,
    // What is undefined.
    r#"a if { x := input.none; y := 1; y == 1 }
b := [x | x := input.none]
c := {y | y := e}
e := input.none
d if not input.none
f if not input.none == 1
g if not count(input.none) > 0
h if not [input.none]
i if not startswith(input.none, "a")
j if not "x" in input.none
k if not input.none.none
l if not e
m if not e == 1
n if not e != 1
o := {"a": input.none}
p := {input.none}
q := object.get(input, "none", 7)
r if not f2(input.none)
s if not f2(1)
t if not f2(1) == 1
u if not input.peer[input.none]
v if not f3(1).b
f2(x) := x if x > 1
f3(x) := {"b": x}"#,
    r#"roles := {"/app": "banned"}
a if not roles[input.peer.path]
b if not roles[input.peer.path] == "banned"
c if not roles[input.peer.path] != "x"
d if not roles[input.peer.path] in {"banned"}
f if not roles[lower(input.peer.path)]
g if not object.get(roles, input.peer.path, "none") == "none"
h := [r | r := roles[input.peer[_]]]"#,
    r#"a if { x := roles[input.peer.path]; not x == "banned" }
roles := {"/app": "banned", "/trusted": false}
b if roles["/trusted"]
c if not roles["/trusted"]
d if roles["/trusted"] == false
e := [k | roles[k]]
f := [k | some k, _ in roles]"#,
    // Order of statements, unification, patterns.
    r#"a if { x > 1; x = 2 }
b := y if { y = x + 1; x = count(input.peer) }
c := [x, y] if { [x, 2] = [1, 2]; {"k": y} = {"k": input.peer.path} }
d if { some x; x = input.peer.path; x == "/app" }
e if { input.peer[k] = "/app"; k == "path" }
f := {k | input.peer[k] = _}
g if { [1, x] = [1, 3]; x == 3 }
h if { not x == 2; x = 1 }
i := [z | z = [1, 2, 3][_]; z > w] if { w := 1 }
j if { 1 = 1 }
kk if { x = 1; x = 1 }
l if { x = 1; x = y; y = 1 }"#,
    r#"a := [[x, y] | some x in [1, 2]; some y in ["a", "b"]]
b := {x: y | some x, y in ["a", "b"]}
c := {[x, y] | x := [1, 2][_]; y := [3, 4][i]; i == 0}
d := [x | some [1, x] in [[1, 2], [2, 3]]]
e := [x | some {"k": x} in [{"k": 1}, {"k": 2}]]
f := [x | some "a", x in {"a": 1, "b": 2}]
g := sum([x | some x in [1, 2, 3]; x % 2 == 1])
h := [[y | some y in x] | some x in [[1], [2, 3]]]"#,
    r#"a if 1 in [1, 2]
b if 0, "x" in ["x"]
c if "k", 1 in {"k": 1}
d if 1, 1 in {1}
e if not 3 in {1, 2}
f := 1 in [2, 1]
g := (1 in [1]) == true
h if { x := "/app" in {"/app"}; x }
i := [x | some x in [1, 2, 3]; x in {2, 3}]
j if 1 in input.peer.path
k if not 1 in input.peer.path"#,
    // Values.
    r#"a := 1 + 2 * 3 - 4
b := 7 % 3 + 0 - 7 % 3
c := {1, 2, 3} & {2, 3, 4}
d := {1, 2} | {3}
e := {1, 2, 3} - {2}
f := 1 - 2 - 3
g := {1} | {2} & {2, 3}
h if 1 < 2
i if "a" < "b"
j if [1, 2] < [1, 3]
k if { {"a": 1} < {"b": 0} }
l if null < false
m if true < 1
n if 5 < "a"
o if "a" < [1]
p if [1] < {"a": 1}
q if { {"a": 1} < {1} }
r := sort([{1}, {"a": 1}, [1], "a", 1, true, null])
s := -5
t := 1 % 0
u if not 1 % 0 == 1
v := abs(-3)
w := [max([1, 3, 2]), min({1, 3}), product([2, 3]), sum({1, 2})]
x := max([])
y := 999999999999999999 * 999999999
z if 5 != "a""#,
    r#"a := count("héllo")
b := [indexof("héllo", "l"), indexof("abc", "x"), indexof("abc", "c")]
c := substring("héllo", 1, 3)
d := substring("abc", 1, -1)
e := substring("abc", 5, 1)
f := substring("abc", -1, 1)
g := replace("a.b.c", ".", "/")
h := replace("abc", "", "-")
i := split("a,b,,c", ",")
j := split("héo", "")
k := split("", ",")
l := [trim("xxaxx", "x"), trim_left("xax", "x"), trim_right("xax", "x"), trim_space("\t a ")]
m := strings.count(".....", "..")
n := strings.count("abc", "")
o := strings.reverse("hé")
p := strings.any_prefix_match("/app/x", ["/app", "/y"])
q := strings.any_suffix_match({"a.b", "c"}, "b")
r := upper("straße ŉ ᾳ ǆ")
s := lower("İSTANBUL ΑΣ")
t := indexof("abc", "")
u := concat(",", {"b", "a"})
v := concat(",", [])
w := format
format := sprintf("%s|%d|%v|%%|%v", ["a", 5, "b", 7])
x := sprintf("%s %v", [{"a": [1, null, true, "q\"\n"]}, {1, 2}])
y := sprintf("%d %s", ["a", 5])
z := sprintf("%v %v %s", [set(), {}, false])"#,
    r#"a := array.concat([1], [2, 3])
b := array.slice([1, 2, 3], 1, 9)
c := array.slice([1, 2, 3], -1, 2)
d := array.slice([1, 2, 3], 2, 1)
e := array.reverse([1, 2])
f := object.get({"a": {"b": 1}}, ["a", "b"], 0)
g := object.get({"a": {"b": 1}}, ["a", "c"], 0)
h := object.get({"a": 1}, "a", 0)
i := object.keys({"a": 1, "b": 2})
j := union({{1}, {2, 3}})
k := intersection({{1, 2}, {2, 3}})
l := [is_string("a"), is_string(1), is_number(1), is_array([]), is_object({}), is_set(set()), is_null(null), is_boolean(true)]
m := [type_name(x) | some x in [1, "a", null, true, [], {}, set()]]
n := [1, 2, 3][1]
o := {"a": [5, 6]}.a[0]
p := {1, 2}[2]
q := "x" if { {1, 2}[input.none] }
r := {"a": 1}[input.peer.path]"#,
    r#"a := {1, 1, 2}
b := {"x", "y"} == {"y", "x"}
c := [1, 2] == [2, 1]
d := {"a": 1} == {"a": 1}
e := null
f := false
g if f
h if not f
i if e
j := set()
k := {}
l := []
m if { {} }
n if []
o if 0
p if """#,
    r#"x := input.peer.path if input.peer.path != "/app"
y := [z | z := x]
a if x
b if not x
f(v) := v + 1
c := f(f(1))
g(1) := "one"
g(2) := "two"
d := [g(1), g(2)]
e := g(3)
h([p, q]) := p + q
i := h([1, 2])
k({"a": p}) := p
l := k({"a": 5})
m(_, v) := v
n := m(1, 2)
o(v) if v in {"/app"}
q if o(input.peer.path)"#,
    r#"print_it if { print("x", input.none); true }
a if print_it"#,
    r#"p := [x | some x in input.peer; x != input.peer.id]
q := count(p) == 2
r if count(p) == 2
s := x if { some x in [3]; x > 2 }
t := {"k": [v | some v in [1, 2]]}
u := {x | some x in t.k; x > 1}"#,
    // Errors of two values at once.
    r#"a := 1 if input.peer
a := 2 if input.service"#,
    r#"a := x if some x in [1, 1]
b := 1 if input.peer.path == "/app"
b := 2 if input.peer.path != "/app""#,
    r#"a := {k: v | some v in [1, 2]; k := "x"}"#,
    r#"p[k] := v if { some v in [1, 2]; k := input.peer.path }"#,
    // `some` names of their own, names that hide others.
    r#"x := 5
a := [x | some x in [1, 2]]
b := x
c(x) := x + 1
d := c(10)
e if { some x; x = 7; x == 7 }
f := 3"#,
    r#"a if { x := 1; b := [y | y := x + 1]; b == [2] }
c := [[x, y] | x := 1; y := [x | x := 2]]"#,
    r#"allow if
  input.peer.path
    == "/app"
a := [
  1,
  2,
]
b := {
  "x": 1, # a comment
  "y": 2,
}"#,
];

/// Rules that may be accepted or refused, but never answer otherwise. Without imports in front.
pub(super) const EITHER: &[&str] = &[
    "import rego.v1\nimport future.keywords.not\ndeny contains \"x\" if not { input.peer.path == \"/trusted\" }",
    "import future.keywords.not\nallow if not input.peer.path == \"/trusted\"",
    "import rego.v1\ndefault banned := [x | some x in names.list]\nnames := {\"list\": [\"/app\"]}\nbanned := [] if input.peer.path == \"/never\"\ndeny contains \"b\" if input.peer.path in banned",
    "default f(_) := 1\nf(x) := 2 if x == 1\na := f(3)",
    "deny contains $\"no {input.peer.path}\" if true",
    "allow if glob.match(\"{admin/,}app\", [\"/\"], trim_prefix(input.peer.path, \"/\"))",
    "a := strings.replace_n({\"a\": \"b\"}, \"aaa\")",
    "allow if regex.match(`(?i)^/APP$`, input.peer.path)",
    "allow if regex.match(`\\p{L}`, input.peer.path)",
    "allow if regex.match(`(((`, input.peer.path)",
    "allow if 0.1 + 0.2 == 0.3",
    "allow if net.cidr_contains(\"10.0.0.0/8\", \"::ffff:10.1.2.3\")",
    "allow if net.cidr_contains(\"::ffff:10.0.0.0/104\", \"10.1.2.3\")",
    "a := sprintf(\"%f\", [1])\nb := sprintf(\"%5d\", [1])\nc := sprintf(\"%x\", [255])",
    "a := [p | walk(input, [p, _])]",
    "a := crypto.hmac.sha256(\"a\", \"b\")",
    "a := json.patch({}, [])",
    "a := strings.split_n(\"a.b\", \".\", 1)",
    "p := 1\np contains 1",
    "p contains 1\np[1] := 2",
    "p(x) := 1\np := 2",
    "f(x) := 1\nf(x, y) := 2",
    "allow if allow",
    "a := b\nb := a",
    "allow if x == 1",
    "allow if { x > 1; y := x }",
    "allow if not input.peer[_] == 1",
    "allow if { not x == 1; y := 2 }",
    "allow if { x := 1; x := 2 }",
    "allow if { x == 1; x := 1 }",
    "allow if 1 == \"a\"",
    "allow if startswith(1, \"a\")",
    "allow if count(1) > 1",
    "allow if \"a\".b",
    "x := {\"a\": 1}\nallow if x.b",
    "x := [1]\nallow if x.b",
    "x := {1}\nallow if x[\"a\"]",
    "allow if { x := 1; x.y }",
    "allow if [1] == [\"a\"]",
    "allow if [1] == [1, 2]",
    "allow if {\"a\": 1} == {\"a\": \"b\"}",
    "allow if {1} == {\"a\"}",
    "allow if 1 in {\"a\"}",
    "allow if some x in 1",
    "b if every x in [] { x == 1 }",
    "b if some x in []",
    "b := [x | some x in []]",
    "a := []\nb if every x in a { x == 1 }",
    "a := {}\nb if every x in a { x == 1 }",
    "a := set()\nb if every x in a { x == 1 }",
    "a := []\nb := a[0]\nc := a[_]",
    "a := [x | x := input.none]\nb if every x in a { x == 1 }",
    "allow if every x in 1 { x }",
    "allow if 1 + \"a\" == 2",
    "allow if sum([\"a\"]) == 1",
    "allow if concat(\",\", [1]) == \"a\"",
    "allow if { x := [1]; x == \"a\" }",
    "f(x) := 1\nallow if f(1) == \"a\"",
    "f(x) := 1\nallow if f(1, 2, 3)",
    "allow if nosuch(1)",
    "allow if count(1, 2, 3)",
    "allow if count([1], x)",
    "allow if input.peer.path = x",
    "input := 1",
    "data := 1",
    "allow if { input := 1 }",
    "allow if { data := 1 }",
    "default p := 1\ndefault p := 2",
    "default p := input.x",
    "default p contains 1",
    "p contains x",
    "p[x] := 1",
    "p := x",
    "import input.peer as x\nx := 1",
    "import input.peer\nimport input.peer\nallow if peer",
    "import rego.v1\nimport rego.v1\nallow if true",
    "import future.keywords.in\nimport future.keywords.in\nallow if true",
    "import rego.v1\nimport future.keywords.if\nallow if true",
    "import future.keywords\nallow if true",
    "import input\nallow if true",
    "import data.foo\nallow if true",
    "allow { true }",
    "allow = true { true }",
    "p[1]",
    "p.a := 1\np.b := 2\nc := p",
    "p.a.b := 1\nc := p.a",
    "p[\"a\"] := 1\nc := p.a",
    "p[x][y] := 1 if { some x in [1]; some y in [2] }",
    "p.q contains 1\nc := p.q",
    "p if { true } { false }",
    "a := {1 | 2}",
    "a := {x | y}\nx := {1}\ny := {2}",
    "a if { {1} | {2} }",
    "a if { x | y }\nx := {1}\ny := {2}",
    "a if {1}",
    "a if {1, 2}",
    "a if {\"a\": 1}",
    "a if {}",
    "a if { {} }",
    "a := 1 == 1 == true",
    "a := 1 < 2 < 3",
    "a := - 5",
    "a := -x\nx := 5",
    "a := 1 -1",
    "a := 1-1",
    "a := [1 -1]",
    "a := 1_000",
    "a := 007",
    "a := 0x10",
    "a := 1e3",
    "a := 1.0",
    "a := 100000000000000000000000",
    "a := \"\\u00e9\\n\\t\"",
    "a := \"\\x\"",
    "a := \"\\ud800\"",
    "a := `raw \\n`",
    "a := `two\nlines`",
    "a := 'x'",
    "a if input.peer .path == \"/app\"",
    "a if input.peer. path == \"/app\"",
    "a if input.peer [\"path\"] == \"/app\"",
    "a := f (1)\nf(x) := x",
    "a := [1, 2] [0]",
    "a := [,1]",
    "a := {,1}",
    "a := [1,,2]",
    "a := (1)",
    "a := (1).b",
    "a := (1 + 2) * 3",
    "a := {\"a\": 1,}",
    "a := {\"a\": 1, \"a\": 2}",
    "a := {\"a\": 1, \"a\": 1}",
    "a := {input.peer.path: 1, \"/app\": 2}",
    "a := {input.peer.path, \"/app\"}",
    "a if { true; }",
    "a if { true;; true }",
    "a if { true true }",
    "a if true b if true",
    "a := 1 b := 2",
    "a if { some x in [1]; some x in [2] }",
    "a if { some x; x := 1 }",
    "a if { some x, y in {1}; x == y }",
    "a if { some x in [1] with input as 1 }",
    "a if { every x in [1] { x := 2 } }",
    "a if { every x in [1] { y := x; y == 1 } }",
    "a if { every x in [1, 2] { y = x } }",
    "a if { x := 1; every x in [2] { x == 2 } }",
    "f(x) := y if { x := 1; y := x }",
    "f(x, x) := x",
    "f(x) := x if { y := [x | x := 2] }\na := f(1)",
    "a := f(1, 2)\nf(x, [x, y]) := y",
    "a if f(1)\nf(1)",
    "a if f(2)\nf(1) := true",
    "f(input.peer.path) := 1\na := f(\"/app\")",
    "a := count",
    "a := f\nf(x) := x",
    "count := 5\na := count",
    "count := 5\na := count([1])",
    "count(x) := 5\na := count([1])",
    "a if { count := 5; count([1]) == 1 }",
    "a := data",
    "a := data.renkei",
    "a := data.renkei.authz",
    "a := data.renkei.authz.b\nb := 1",
    "a := data.renkei.authz[\"b\"]\nb := 1",
    "a := data.renkei.authz[x]\nb := 1\nx := \"b\"",
    "a := data.other",
    "a if not data.other",
    "a if not data.renkei.other",
    "a := data.renkei.authz.none",
    "a := data.renkei.authz.f(1)\nf(x) := x",
    "a := input",
    "a := input[x]",
    "a := {x | input[x]}",
    "a := [x | x := input[_][_]]",
    "a := input.peer[\"path\"].x",
    "a := x.y.z if { x := {\"y\": {\"z\": 1}} }",
    "a if { walk(input) }",
    "a if b with data.renkei.authz.c as 1\nb if c\nc := 2",
    "a if b with count as 1\nb if count([]) == 1",
    "a := input with input as 5",
    "a := input.x.y with input.x as 5 with input.x.y as 6",
    "a := input.peer.path.x with input.peer.path.x as 1",
    "a := input.peer with input.peer.path as \"z\"",
    "a if input.x == 1 with input.x as 1",
    "a if not input.x == 1 with input.x as 1",
    "a if not input.x == 1 with input.x as input.none",
    "a if { y := input.x with input.x as 1; y == 1; not input.x }",
    "a := [x | x := input.l[_] with input.l as [1, 2]]",
    "a if { some x in [1, 2]; b with input.n as x }\nb if input.n == 2",
    "a := c with input.n as 1\nc := input.n\nd := c",
    "a := 1 { true }",
    "a := 1 if { false } else := 2",
    "a := 1 if false else := 2 if false else := 3",
    "a if false else := 2 if true",
    "a := x if { some x in [1, 2] } else := 3",
    "a := input.none else := 3",
    "a := input.none if true else := 3",
    "a contains 1 if false else := 2",
    "allow if input.peer.path == \"/app\" # comment",
    "# METADATA\n# title: x\nallow if true",
    "# METADATA\n# nonsense: [\nallow if true",
    "allow if null",
    "allow if \"\"",
    "allow if 0",
    "allow if [false]",
    "allow := input.peer.path == \"/app\"",
    "allow := x if x := input.peer.path == \"/app\"",
    "allow if x := input.peer.path == \"/app\"",
    "allow if x = false",
    "allow if { x := false }",
    "allow if { x := false; x }",
    "allow if [x | false]",
    "a contains b if b := 1\nc if a[1]\nd if a[2]\ne := a[x] if x := 1",
    "a contains [1, 2]\nb if a[[1, 2]]\nc if a[[1, x]]",
    "a contains [1, 2]\nb := [x | a[[1, x]]]",
    "a := {[1, 2]: 3}[[1, 2]]",
    "a := {1: 2}[1]",
    "a := [1, 2, 3][-1]",
    "a := [1, 2, 3][5]",
    "a := {x: 1 | x := [1, \"b\"][_]}",
    "a := {1: 1, \"1\": 2}",
    "a := object.get({\"a\": [1, 2]}, [\"a\", 1], 0)\nb := object.get({\"a\": 1}, [], 0)",
    "a := [1 | not input.none]",
    "a := [1 | true; not false]",
    "a if not true == false",
    "a if not (1 == 2)",
    "a if not not true",
    "a if not x in {1}\nx := 2",
    "a if not 1 + 1 == 3",
    "a if not 1 + input.none == 3",
    "a if not {x | x := 1} == {2}",
    "a if not [x | x := input.none] == []",
    "a if not b[input.peer.path]\nb := {\"/app\": 1}",
    "a if not b[input.peer.path].x\nb := {\"/app\": {\"x\": 1}}",
    "a if not input.peer.path = \"/app\"",
    "a if not x = 1",
    "a if { x := 1; not x = 1 }",
    "a if { not x := 1 }",
    "allow if input.package.if.contains",
    "allow if input.peer.contains",
    "contains := 1",
    "a := contains(\"ab\", \"b\")",
    "if := 1",
    "in := 1",
    "every := 1",
    "a if every",
    "a := every",
    "rego := 1\na := rego",
    "future := 1\na := future",
    "_ := 1",
    "a := _",
    "a if _ = 1",
    "_a := 1\nb := _a",
    "a := {_ | true}",
    "a if { [_, _] = [1, 2] }",
    "a if { _ := 1 }",
    "a if { some _ in [1] }",
    "a if { some _ }",
    "a if { some x; true }",
    "a if { some x in [1]; true }",
    "a if { every x in [1] { true } }",
    "h([p, q]) := p + q\na := h([1])",
    "f(v) := v + 1\na := f(\"x\")",
    "f(v) := 1 if v == \"a\"\na := f(1)",
    "f(v) := 1 if v == \"a\"\nf(v) := 2 if v == 1\na := f(1)\nb := f(true)",
    "f(1) := 1\nf(2) := 2\na := f(\"x\")",
    "f(1) := 1\nf(\"x\") := 2\na := f(\"x\")",
    "f(v) := w if { w := v; startswith(w, \"a\") }\na := f(1)",
    "f(v) := 1 if [v, 1] == [\"a\", 1]\na := f(1)",
    "f(v) := 1 if v = \"a\"\na := f(1)",
    "f(v) := 1 if \"a\" = v\na := f(1)",
    "f(v) := 1 if { [\"a\"] = [v] }\na := f(1)",
    "f(v) := 1 if { [x] = v; x == 1 }\na := f(\"a\")",
    "f(v) := 1 if v in [1]\na := f(\"a\")",
    "f(v) := 1 if 1 in v\na := f(\"a\")",
    "f(v) := 1 if some x in v\na := f(1)",
    "f(v) := v.a\na := f(1)",
    "f(v) := v[0]\na := f({\"b\": 1})",
    "f(v) := 1 if not startswith(v, \"a\")\na := f(1)",
    "f(v) := g(v)\ng(v) := v + 1\na := f(\"a\")",
    "f(v) := [x | x := v + 1]\na := f(\"a\")",
    "f(v) := 1 if every x in [1] { x + v > 1 }\na := f(\"a\")",
    "f(v) := upper(v)\na := f(1)",
    "f(v) := v else := 1 if v > 2\na := f(\"a\")",
    "f({\"k\": v}) := v + 1\na := f({\"k\": \"a\"})",
    "f({\"k\": v}) := v\na := f({\"j\": 1})",
    "a if { some _, _ in [1] }",
    "a if { every _ in [1] { true } }",
    "f(_) := 1\na := f(2)",
    "f(_, _) := 1\na := f(2, 3)",
    "a := [x | [x, x] = [1, 1]]",
    "a := [x | [x, x] = [1, 2]]",
    "a if { [x, y] := [1, 2]; x < y }",
    "a if { [x, x] := [1, 2] }",
    "a if { {\"a\": x} := {\"a\": 1}; x == 1 }",
    "a if { {\"a\": x} := {\"a\": 1, \"b\": 2}; x == 1 }",
    "a if { [x, 1] := [2, 1]; x == 2 }",
    "a if { 1 := 1 }",
    "a if { input.x := 1 }",
    "a if { x.y := 1 }",
    "a if { {x} := {1} }",
    "a if { {x} = {1} }",
    "a if { x = {y}; y = 1; x == {1} }",
    "a if { [x, {\"k\": y}] = [1, {\"k\": 2}]; x + y == 3 }",
    "a if { {k: 1} = {\"a\": 1}; k == \"a\" }",
    "a if { {input.peer.path: x} = {\"/app\": 1}; x == 1 }",
    "x := 1\na if { x = 1 }\nb if { x := 2; x == 2 }",
    "x := 1\na := [x | x := 2]\nb := [x | x = 1]",
    "a := y if { x := [y | y := 1]; y := x[0] }",
    "a := x if { y := [x | x := 1]; x := y }",
    "a if { some x in x }\nx := [1]",
    "a if { x := x }\nx := 1",
    "a if { y := [z | z := x]; x := 1 }",
    "a := [z | z = x] if { x = 1 }",
    "a := [x | x = 1; y = x] if { y = 1 }",
    "a := [x | x = y] if { y = 1; x = 2 }",
    "a if { x = [y | y = 1]; y = 2 }",
];
