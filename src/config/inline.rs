//! Which secrets stand in the file of the configuration itself. Pure.
//!
//! A file that holds one should not be open to all users. A key counts wherever it stands, whether or not
//! something overrides it: it can be read all the same.

use toml::{Table, Value};

use crate::config::keys;

/// The paths of all keys that hold a secret, in the order of the file's tables.
pub fn secrets(table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    walk(table, "", "", &mut found);
    found
}

/// `path` has the places of arrays in it, `heading` has not: it is a prefix as in [`keys::TABLES`].
fn walk(table: &Table, path: &str, heading: &str, found: &mut Vec<String>) {
    for (name, value) in table {
        let path = format!("{path}{name}");
        if holds_secret(heading, name) && !is_empty(value) {
            found.push(path);
        } else {
            look(value, &path, &format!("{heading}{name}."), found);
        }
    }
}

fn look(value: &Value, path: &str, heading: &str, found: &mut Vec<String>) {
    match value {
        Value::Table(table) => walk(table, &format!("{path}."), heading, found),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                look(item, &format!("{path}[{i}]"), heading, found);
            }
        }
        Value::String(text) if is_url_with_secret(text) => found.push(path.to_owned()),
        _ => {}
    }
}

fn holds_secret(heading: &str, name: &str) -> bool {
    let tables = keys::TABLES.iter();
    let mut table = tables.filter(|(prefix, _)| *prefix == heading);
    table.any(|(_, keys)| keys.iter().any(|key| key.secret && key.name == name))
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty)
}

/// Whether a URL has a user before its host, or a password (`p`) in its query. Not all that looks like one can
/// be parsed; a secret in it can be read all the same.
fn is_url_with_secret(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    authority.contains('@') || pairs.any(|(name, value)| name == "p" && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{is_url_with_secret, secrets};

    #[test]
    fn each_secret_of_a_file_is_found_where_it_stands() {
        let text = r#"
            peers = ["http://127.0.0.1:9097"]
            admin = { bind-addr = ":1", token = "hunter2" }
            [[http]]
            users-file = "/run/users"
            output = [{ name = "a", location = "http://u:p@h:8086/write", password = "hunter2" }]
            [[http]]
            users = ["a b"]
            tokens = ""
            [[http.output]]
            location = "http://h:8086/write"
            token-file = "/run/token"
            [[http.output]]
            token = "hunter2"
            endpoints = { write = "http://u:p@h/write" }
            [[udp]]
            output = [{ location = "http://h:8086/?db=x&u=a&p=b" }, { location = "h:8089" }]
            [[filter]]
            token = "no such key"
        "#;
        let found = secrets(&text.parse().unwrap());
        let expected = [
            "admin.token",
            "http[0].output[0].location",
            "http[0].output[0].password",
            "http[1].output[1].endpoints.write",
            "http[1].output[1].token",
            "http[1].users",
            "udp[0].output[0].location",
        ];
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "{found:?}");
    }

    #[test]
    fn a_url_has_a_secret_or_has_none() {
        for (text, has) in [
            ("http://h:8086/write?db=x", false),
            ("http://h/a@b", false),
            ("http://h/?q=u@h", false),
            ("h:8089", false),
            ("http://h/?db=x&p=", false),
            ("http://h/?p=b", true),
            ("http://u:p@h", true),
            ("https://u@h/x", true),
            ("http://u:p@[::1]:x", true),
        ] {
            assert_eq!(is_url_with_secret(text), has, "{text}");
        }
    }
}
