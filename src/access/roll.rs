//! The list of those who may enter one door. It never changes: another list is another roll.

use std::collections::HashMap;

use crate::access::credentials::Credentials;
use crate::access::hash::{is_of, sha256};
use crate::plan::access::{AccessPlan, Argon2Plan, EntryPlan, HashPlan};

/// Everybody who may enter: users, then tokens. An entry is its place.
pub struct Roll {
    entries: Vec<EntryPlan>,
    names: HashMap<Vec<u8>, usize>,
    tokens: HashMap<[u8; 32], usize>,
    slow_tokens: Vec<usize>,
    /// As slow as the slowest of the users: what an unknown name is held against.
    nobody: Option<Argon2Plan>,
}

/// What the list says of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// They are this entry's, for certain.
    Known(usize),
    /// They may be: it has to be verified.
    Suspect(Suspect),
    /// They are nobody's, for certain.
    Nobody,
}

/// Whose credentials they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// This user's; or nobody's, which takes as long to find out.
    User(Option<usize>),
    /// One of the tokens that are held as argon2id.
    Token,
}

impl Roll {
    /// The list of a plan. Once per start.
    pub fn new(plan: &AccessPlan) -> Self {
        let entries: Vec<EntryPlan> = plan.users.iter().chain(&plan.tokens).cloned().collect();
        let users = entries.iter().enumerate().take(plan.users.len());
        let tokens = || entries.iter().enumerate().skip(plan.users.len());
        let names = users.map(|(at, user)| (user.name.clone().into_bytes(), at));
        let fast = tokens().filter_map(|(at, token)| match token.hash {
            HashPlan::Sha256(digest) => Some((digest, at)),
            HashPlan::Argon2id(_) => None,
        });
        let slow = tokens().filter(|(_, token)| matches!(token.hash, HashPlan::Argon2id(_)));
        Self {
            names: names.collect(),
            tokens: fast.collect(),
            slow_tokens: slow.map(|(at, _)| at).collect(),
            nobody: slowest(&plan.users),
            entries,
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One of them; `None` if the place is of another list.
    pub fn entry(&self, at: usize) -> Option<&EntryPlan> {
        self.entries.get(at)
    }

    /// The tokens that are held as argon2id.
    pub fn slow_tokens(&self) -> &[usize] {
        &self.slow_tokens
    }

    /// Whose credentials these are, or may be. Once per request; cheap.
    pub fn find(&self, credentials: Credentials<'_>) -> Found {
        match credentials {
            Credentials::User { .. } if self.nobody.is_none() => Found::Nobody,
            Credentials::User { name, .. } => {
                Found::Suspect(Suspect::User(self.names.get(name).copied()))
            }
            Credentials::Token(token) => match self.tokens.get(&sha256(token)) {
                Some(&at) => Found::Known(at),
                None if self.slow_tokens.is_empty() => Found::Nobody,
                None => Found::Suspect(Suspect::Token),
            },
        }
    }

    /// Whose the secret is. Takes as long whoever it is: tens of milliseconds, never on a shard.
    pub fn verify(&self, suspect: Suspect, secret: &[u8]) -> Option<usize> {
        match suspect {
            Suspect::User(Some(at)) => self.is_of(at, secret).then_some(at),
            Suspect::User(None) => {
                let _nobody = self.nobody.as_ref().map(|plan| is_of(plan, secret));
                None
            }
            Suspect::Token => {
                let tokens = self.slow_tokens.iter();
                let all = tokens.filter(|&&at| self.is_of(at, secret));
                all.copied().last()
            }
        }
    }

    fn is_of(&self, at: usize, secret: &[u8]) -> bool {
        match self.entry(at).map(|entry| &entry.hash) {
            Some(HashPlan::Argon2id(plan)) => is_of(plan, secret),
            _ => false,
        }
    }
}

fn slowest(users: &[EntryPlan]) -> Option<Argon2Plan> {
    let hashes = users.iter().filter_map(|user| match &user.hash {
        HashPlan::Argon2id(plan) => Some(plan),
        HashPlan::Sha256(_) => None,
    });
    let cost = |plan: &&Argon2Plan| u64::from(plan.memory_kib) * u64::from(plan.passes);
    hashes.max_by_key(cost).cloned()
}

#[cfg(test)]
mod tests {
    use super::{Found, Roll, Suspect};
    use crate::access::credentials::Credentials;
    use crate::access::hash::{of_token, parse};
    use crate::plan::access::{AccessPlan, EntryPlan, RightsPlan};

    /// Of "password".
    const HASH: &str =
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

    fn entry(name: &str, hash: &str) -> EntryPlan {
        EntryPlan {
            name: name.into(),
            hash: parse(hash).unwrap(),
            rights: RightsPlan::default(),
        }
    }

    fn user<'s>(name: &'s str, password: &'s str) -> Credentials<'s> {
        Credentials::User {
            name: name.as_bytes(),
            password: password.as_bytes(),
        }
    }

    #[test]
    fn users_are_verified_and_tokens_are_known_at_once() {
        let roll = Roll::new(&AccessPlan {
            users: vec![entry("a", HASH), entry("b", HASH)],
            tokens: vec![entry("t", &of_token(b"fast")), entry("", HASH)],
        });
        assert_eq!(roll.len(), 4);
        let suspect = |at| Found::Suspect(Suspect::User(at));
        assert_eq!(roll.find(user("b", "x")), suspect(Some(1)));
        assert_eq!(roll.find(user("c", "password")), suspect(None));
        assert_eq!(roll.find(user("t", "fast")), suspect(None));
        assert_eq!(roll.find(Credentials::Token(b"fast")), Found::Known(2));
        let slow = roll.find(Credentials::Token(b"password"));
        assert_eq!(slow, Found::Suspect(Suspect::Token));
        for (who, secret, want) in [
            (Suspect::User(Some(1)), "password", Some(1)),
            (Suspect::User(Some(1)), "passwor", None),
            (Suspect::User(None), "password", None),
            (Suspect::User(Some(2)), "fast", None),
            (Suspect::User(Some(9)), "password", None),
            (Suspect::Token, "password", Some(3)),
            (Suspect::Token, "fast", None),
        ] {
            assert_eq!(
                roll.verify(who, secret.as_bytes()),
                want,
                "{who:?} {secret}"
            );
        }
    }

    #[test]
    fn without_users_or_slow_tokens_nothing_is_verified() {
        let roll = Roll::new(&AccessPlan {
            users: Vec::new(),
            tokens: vec![entry("t", &of_token(b"fast"))],
        });
        assert_eq!(roll.find(user("t", "fast")), Found::Nobody);
        assert_eq!(roll.find(Credentials::Token(b"slow")), Found::Nobody);
    }
}
