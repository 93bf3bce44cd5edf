//! Names that do not exist: what was meant, and which are none of ours. Pure.

use crate::config::problem::nearest;
use std::collections::BTreeSet;

/// Known names that a problem lists in full. Of more it says where they are listed.
const LISTED_MAX: usize = 24;

/// What every variable of ours begins with.
pub const PREFIX: &str = "RELAY_";

/// What to write instead of a name that does not exist.
pub fn instead_of(name: &str, known: &BTreeSet<String>) -> String {
    // What all variables begin with would make any two of them look alike.
    let prefix = if name.starts_with(PREFIX) { PREFIX } else { "" };
    let tails = known
        .iter()
        .map(|known| known.strip_prefix(prefix).unwrap_or(known));
    match nearest(name.strip_prefix(prefix).unwrap_or(name), tails) {
        Some(near) => format!("`{prefix}{near}`, or remove it"),
        None if known.len() > LISTED_MAX => {
            "nothing: remove it (the README lists every variable)".into()
        }
        None => format!(
            "one of {}",
            known
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// What Kubernetes and Docker links set for a service named `relay` or `relay-x`.
pub fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

#[cfg(test)]
mod tests {
    use super::{instead_of, is_service_link};
    use crate::config::keys::variables;

    #[test]
    fn the_common_prefix_makes_no_two_variables_near() {
        let known = variables().collect();
        assert!(instead_of("RELAY_HTTP_OUTPUT", &known).starts_with("`RELAY_HTTP_OUTPUTS`"));
        assert!(instead_of("RELAY_LGO", &known).starts_with("`RELAY_LOG`"));
        assert!(instead_of("RELAY_FOO", &known).starts_with("nothing"));
        assert!(instead_of("RELAY_", &known).starts_with("nothing"));
    }

    #[test]
    fn no_variable_of_ours_looks_like_a_service_link() {
        assert!(
            is_service_link("RELAY_SERVICE_HOST") && is_service_link("RELAY_PORT_9096_TCP_ADDR")
        );
        assert_eq!(variables().find(|name| is_service_link(name)), None);
    }
}
