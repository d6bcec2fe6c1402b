//! What can be wrong with an object, read from its own schema: each field missing where it must be there, of the
//! wrong kind, too small, too large, too long, too many, twice, and no word of the list.
//!
//! Nothing here asks an apiserver. A path is a field as the apiserver names it (`spec.mounts[0].name`), a place the
//! same field in the schema (`spec.mounts[].name`, `spec.sharedOptions{}`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The one key of a map whose keys are free.
const KEY: &str = "key";

/// No enum has it, no pattern allows it as a kind of anything.
const WORD: &str = "no such word";

/// Wrong in another way: where the field need not be there, null is nothing at all, and must not be kept.
pub const NULL: &str = "null";

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Of the schema.
    pub place: String,
    pub what: &'static str,
    /// As the apiserver must name it.
    pub field: String,
    pointer: String,
    /// None: the field is taken out.
    becomes: Option<Value>,
}

impl Fault {
    /// What an object has in this place.
    pub fn found_in<'a>(&self, whole: &'a Value) -> Option<&'a Value> {
        whole.pointer(&self.pointer)
    }

    /// The object with this fault in it.
    pub fn on(&self, whole: &Value) -> Value {
        let mut faulty = whole.clone();
        match &self.becomes {
            Some(value) => *faulty.pointer_mut(&self.pointer).unwrap() = value.clone(),
            None => {
                let (parent, name) = self.pointer.rsplit_once('/').unwrap();
                let parent = faulty.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                assert!(parent.remove(name).is_some(), "{} is not there to be taken out", self.field);
            }
        }
        faulty
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let becomes = self.becomes.as_ref().map(Value::to_string).unwrap_or_default();
        let becomes: String = becomes.chars().take(60).collect();
        write!(out, "{} {} ({becomes})", self.field, self.what)
    }
}

/// A field on the way down.
#[derive(Clone, Debug, Default)]
struct At {
    place: String,
    field: String,
    pointer: String,
}

impl At {
    fn child(&self, name: &str) -> Self {
        let dot = if self.place.is_empty() { "" } else { "." };
        Self {
            place: format!("{}{dot}{name}", self.place),
            field: format!("{}{dot}{name}", self.field),
            pointer: format!("{}/{name}", self.pointer),
        }
    }

    fn item(&self, index: usize) -> Self {
        Self {
            place: format!("{}[]", self.place),
            field: format!("{}[{index}]", self.field),
            pointer: format!("{}/{index}", self.pointer),
        }
    }

    fn value(&self) -> Self {
        Self {
            place: format!("{}{{}}", self.place),
            field: format!("{}.{KEY}", self.field),
            pointer: format!("{}/{KEY}", self.pointer),
        }
    }

    fn fault(&self, what: &'static str, becomes: impl Into<Option<Value>>) -> Fault {
        let Self { place, field, pointer } = self.clone();
        Fault { place, what, field, pointer, becomes: becomes.into() }
    }
}

/// What a schema says of one field, as far as there is something to break.
struct Field<'a>(&'a Value);

impl<'a> Field<'a> {
    fn kind(&self) -> &'a str {
        if self.0["x-kubernetes-int-or-string"] == true {
            return "int or string";
        }
        self.0["type"].as_str().unwrap_or_else(|| panic!("a field without a type: {}", self.0))
    }

    fn count(&self, name: &str) -> Option<usize> {
        self.0[name].as_u64().map(|count| usize::try_from(count).unwrap())
    }

    /// The YAML has 100.0: a bound of an integer is one.
    fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_f64().map(|number| format!("{number:.0}").parse().unwrap())
    }

    fn properties(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0["properties"].as_object().into_iter().flatten()
    }

    fn required(&self) -> impl Iterator<Item = &'a str> {
        self.0["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    fn unique(&self) -> bool {
        self.0["x-kubernetes-list-type"].as_str().is_some_and(|kind| kind != "atomic")
    }
}

/// Everything that this schema says must not be, on a whole object that holds each of its fields.
pub fn faults(schema: &Value, whole: &Value) -> Vec<Fault> {
    let mut found = Vec::new();
    let root = Field(schema);
    found.extend(root.required().map(|name| At::default().child(name).fault("missing", None)));
    for (name, schema) in root.properties() {
        if let Some(value) = whole.get(name) {
            walk(schema, value, &At::default().child(name), &mut found);
        }
    }
    found
}

fn walk(schema: &Value, value: &Value, at: &At, found: &mut Vec<Fault>) {
    let field = Field(schema);
    let mut fault = |what, becomes: Value| found.push(at.fault(what, becomes));
    for wrong in of_the_wrong_kind(field.kind()) {
        fault("of the wrong kind", wrong);
    }
    if schema["nullable"] != true {
        fault(NULL, Value::Null);
    }
    if let Some(least) = field.number("minimum") {
        fault("too small", json!(least - 1));
        fault("negative", json!(-7));
    }
    if let Some(most) = field.number("maximum") {
        fault("too large", json!(most + 1));
    }
    if field.kind() == "integer" {
        fault("huge", json!(u64::MAX));
    }
    if schema.get("enum").is_some() {
        fault("none of the words", json!(WORD));
    }
    if let Some(least) = field.count("minLength").filter(|least| *least > 0) {
        fault("too short", json!("x".repeat(least - 1)));
    }
    if let Some(most) = field.count("maxLength") {
        fault("too long", json!("x".repeat(most + 1)));
    }
    if schema.get("pattern").is_some() {
        // Every pattern of ours is about what goes into a URL, a name or a number.
        fault("not of the pattern", json!(" ".repeat(field.count("minLength").unwrap_or(1).max(1))));
    }
    if schema["format"] == "date-time" {
        fault("no time", json!("yesterday"));
    }
    if let Some(least) = field.count("minItems").filter(|least| *least > 0) {
        fault("too few", json!(vec![&value[0]; least - 1]));
    }
    if let Some(most) = field.count("maxItems") {
        fault("too many", json!(vec![&value[0]; most + 1]));
    }
    if let Some(most) = field.count("maxProperties") {
        let many: Map<String, Value> =
            (0..=most).map(|number| (format!("{KEY}-{number}"), value[KEY].clone())).collect();
        fault("too many", many.into());
    }
    if field.unique() {
        let twice = at.fault("twice", json!([value[0], value[0]]));
        found.push(Fault { field: at.item(1).field, ..twice });
    }
    found.extend(field.required().map(|name| at.child(name).fault("missing", None)));
    for (name, schema) in field.properties() {
        if let Some(value) = value.get(name) {
            walk(schema, value, &at.child(name), found);
        }
    }
    if let (Some(schema), Some(value)) = (schema.get("items"), value.get(0)) {
        walk(schema, value, &at.item(0), found);
    }
    if let (Some(schema), Some(value)) = (of_values(schema), value.get(KEY)) {
        walk(schema, value, &at.value(), found);
    }
}

fn of_the_wrong_kind(kind: &str) -> Vec<Value> {
    match kind {
        "string" => vec![json!(7), json!([WORD])],
        "integer" => vec![json!(WORD), json!(1.5)],
        "boolean" => vec![json!(WORD), json!(1)],
        "object" => vec![json!(WORD), json!([WORD])],
        "array" => vec![json!(WORD), json!({"x": WORD})],
        "int or string" => vec![json!(true), json!([WORD])],
        _ => panic!("nothing is known of fields that are a {kind}"),
    }
}

fn of_values(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|schema| schema.is_object())
}

/// An object with every field of a schema: as `own` has it, else as little as the schema allows. What is null in `own`
/// is left out, for rules across fields that allow only one of them.
pub fn whole(schema: &Value, own: Option<&Value>) -> Value {
    let field = Field(schema);
    match (field.kind(), own) {
        ("object", own) if schema.get("properties").is_some() => {
            let own = |name: &String| own.and_then(|own| own.get(name));
            let wanted = field.properties().filter(|(name, _)| own(name) != Some(&Value::Null));
            Value::Object(wanted.map(|(name, schema)| (name.clone(), whole(schema, own(name)))).collect())
        }
        ("array", Some(Value::Array(own))) => {
            own.iter().map(|own| whole(&schema["items"], Some(own))).collect()
        }
        (_, Some(own)) => own.clone(),
        ("object", None) => {
            let value = of_values(schema).map(|schema| (KEY.to_owned(), whole(schema, None)));
            Value::Object(value.into_iter().collect())
        }
        ("array", None) => json!([whole(&schema["items"], None)]),
        ("string", None) if schema["format"] == "date-time" => json!("2026-11-30T06:00:00Z"),
        ("string", None) => match &schema["enum"] {
            Value::Array(words) => words[0].clone(),
            _ => json!("x".repeat(field.count("minLength").unwrap_or(1).max(1))),
        },
        ("integer", None) => json!(field.number("minimum").unwrap_or(1)),
        ("boolean", None) => json!(true),
        (_, None) => json!(1),
    }
}

/// Every place in a schema, and whether something there keeps a value from being as large as the request may be.
pub fn places(schema: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut all, mut boundless) = (BTreeSet::new(), BTreeSet::new());
    let mut left: Vec<(&Value, At)> =
        Field(schema).properties().map(|(name, schema)| (schema, At::default().child(name))).collect();
    while let Some((schema, at)) = left.pop() {
        let field = Field(schema);
        let has = |name: &str| schema.get(name).is_some();
        let bounded = match field.kind() {
            "string" => has("maxLength") || has("enum") || has("format"),
            "integer" => has("minimum") && has("maximum"),
            "array" => has("maxItems"),
            "object" => of_values(schema).is_none() || has("maxProperties"),
            "boolean" => true,
            _ => has("pattern") || has("x-kubernetes-validations"),
        };
        // What nobody describes is bounded by nobody.
        if !bounded || schema["x-kubernetes-preserve-unknown-fields"] == true {
            boundless.insert(at.place.clone());
        }
        left.extend(field.properties().map(|(name, schema)| (schema, at.child(name))));
        left.extend(schema.get("items").map(|schema| (schema, at.item(0))));
        left.extend(of_values(schema).map(|schema| (schema, at.value())));
        all.insert(at.place);
    }
    (all, boundless)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {
            "type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^x+$"},
                "level": {"type": "integer", "minimum": 1.0, "maximum": 9.0, "nullable": true},
                "free": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
                "many": {"type": "array", "maxItems": 1, "x-kubernetes-list-type": "set",
                         "items": {"type": "string", "enum": ["a", "b"]}},
            }
        }}})
    }

    fn shown(fault: &Fault, whole: &Value) -> String {
        format!("{} {}: {}", fault.field, fault.what, fault.on(whole)["spec"])
    }

    #[test]
    fn a_whole_object_has_every_field_and_what_is_given() {
        let made = whole(&schema(), Some(&json!({"spec": {"level": null, "name": "xxx"}})));
        assert_eq!(made, json!({"spec": {"name": "xxx", "free": {"key": "x"}, "many": ["a"]}}));
    }

    #[test]
    fn each_bound_is_overstepped_by_one() {
        let whole = whole(&schema(), None);
        let all: Vec<String> = faults(&schema(), &whole).iter().map(|fault| shown(fault, &whole)).collect();
        for wanted in [
            r#"spec.name missing: {"free":{"key":"x"},"level":1,"many":["a"]}"#,
            r#"spec.name too short: {"free":{"key":"x"},"level":1,"many":["a"],"name":"x"}"#,
            r#"spec.name too long: {"free":{"key":"x"},"level":1,"many":["a"],"name":"xxxx"}"#,
            r#"spec.name not of the pattern: {"free":{"key":"x"},"level":1,"many":["a"],"name":"  "}"#,
            r#"spec.level too small: {"free":{"key":"x"},"level":0,"many":["a"],"name":"xx"}"#,
            r#"spec.level too large: {"free":{"key":"x"},"level":10,"many":["a"],"name":"xx"}"#,
            r#"spec.free too many: {"free":{"key-0":"x","key-1":"x"},"level":1,"many":["a"],"name":"xx"}"#,
            r#"spec.free.key of the wrong kind: {"free":{"key":7},"level":1,"many":["a"],"name":"xx"}"#,
            r#"spec.many too many: {"free":{"key":"x"},"level":1,"many":["a","a"],"name":"xx"}"#,
            r#"spec.many[1] twice: {"free":{"key":"x"},"level":1,"many":["a","a"],"name":"xx"}"#,
            r#"spec.many[0] none of the words: {"free":{"key":"x"},"level":1,"many":["no such word"],"name":"xx"}"#,
        ] {
            assert!(all.iter().any(|shown| shown == wanted), "{wanted} is not among {all:#?}");
        }
        assert!(!all.iter().any(|shown| shown.starts_with("spec.level null")), "it may be null");
    }

    #[test]
    fn places_without_a_bound_are_found() {
        let (all, boundless) = places(&schema());
        let names =
            ["spec", "spec.free", "spec.free{}", "spec.level", "spec.many", "spec.many[]", "spec.name"];
        assert_eq!(all.iter().collect::<Vec<_>>(), names);
        assert_eq!(boundless.iter().collect::<Vec<_>>(), ["spec.free{}"]);
    }
}
