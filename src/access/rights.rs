//! What somebody may do with one database. Pure.

use crate::plan::access::{ReachPlan, RightsPlan};

/// Something that can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To ask for points.
    Read,
    /// To send points.
    Write,
    /// To change what the database is.
    Admin,
}

impl Right {
    /// As `influxd` calls it where it is missing.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Admin => "ALL PRIVILEGES",
        }
    }
}

/// Whether this right is given on a database; `None` is all of them, and what belongs to none. Once per
/// request; allocates nothing.
pub fn may<N>(rights: &RightsPlan, right: Right, database: Option<N>) -> bool
where
    N: Iterator<Item = u8> + Clone,
{
    let own = match right {
        Right::Read => &rights.read,
        Right::Write => &rights.write,
        Right::Admin => &rights.admin,
    };
    covers(own, database.clone()) || covers(&rights.admin, database)
}

fn covers<N>(reach: &ReachPlan, database: Option<N>) -> bool
where
    N: Iterator<Item = u8> + Clone,
{
    let is_named = |database: N| {
        let names = &mut reach.databases.iter();
        names.any(|name| database.clone().eq(name.bytes()))
    };
    reach.all || database.is_some_and(is_named)
}

#[cfg(test)]
mod tests {
    use super::{Right, may};
    use crate::plan::access::{ReachPlan, RightsPlan};

    #[test]
    fn a_right_holds_where_it_is_given_and_admin_holds_all() {
        let on = |all, names: &[&str]| ReachPlan {
            all,
            databases: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let rights = RightsPlan {
            read: on(true, &[]),
            write: on(false, &["a", "b"]),
            admin: on(false, &["ops"]),
        };
        for (right, database, want) in [
            (Right::Read, Some("x"), true),
            (Right::Read, None, true),
            (Right::Write, Some("a"), true),
            (Right::Write, Some("b"), true),
            (Right::Write, Some("A"), false),
            (Right::Write, Some("ab"), false),
            (Right::Write, Some(""), false),
            (Right::Write, None, false),
            (Right::Write, Some("ops"), true),
            (Right::Admin, Some("ops"), true),
            (Right::Admin, Some("a"), false),
            (Right::Admin, None, false),
        ] {
            let found = may(&rights, right, database.map(str::bytes));
            assert_eq!(found, want, "{right:?} {database:?}");
        }
        let none = RightsPlan::default();
        assert!(!may(&none, Right::Read, Some("x".bytes())));
    }
}
