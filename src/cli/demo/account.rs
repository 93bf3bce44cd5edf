//! Who has which points, and whether that adds up. Pure.

use std::collections::BTreeSet;

/// Numbers of points.
pub(super) type Points = BTreeSet<u64>;

/// The final account.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Points that were sent.
    pub(super) sent: u64,
    /// Requests that failed.
    pub(super) failed: u64,
    /// Points whose write was acknowledged.
    pub(super) acknowledged: Points,
    /// What each backend has.
    pub(super) has: [Points; 2],
}

impl Account {
    /// Acknowledged points that each backend lacks.
    pub(super) fn missing(&self) -> [usize; 2] {
        [0, 1].map(|b| self.acknowledged.difference(&self.has[b]).count())
    }

    /// Whether every acknowledged point is in both.
    pub(super) fn adds_up(&self) -> bool {
        self.missing() == [0, 0] && !self.acknowledged.is_empty()
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        let [one, two] = self.missing();
        format!(
            "sent          {:>9}\nacknowledged  {:>9}   ({} requests failed)\nin backend 1  {:>9}   ({one} missing)\nin backend 2  {:>9}   ({two} missing)\n",
            self.sent,
            self.acknowledged.len(),
            self.failed,
            self.has[0].len(),
            self.has[1].len(),
        )
    }
}

/// The body of a write: these points.
pub(super) fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers
        .map(|n| format!("demo v={n}i {}\n", FIRST_TIME + n))
        .collect()
}

/// The points in what a sink has recorded.
pub(super) fn recorded(text: &str) -> Points {
    let number = |line: &str| {
        line.strip_prefix("demo v=")?
            .split('i')
            .next()?
            .parse()
            .ok()
    };
    text.lines().filter_map(number).collect()
}

/// The points in an answer of InfluxDB as CSV: `name,tags,time,v`.
pub(super) fn selected(csv: &str) -> Points {
    let number = |line: &str| line.rsplit(',').next()?.trim().parse().ok();
    csv.lines().skip(1).filter_map(number).collect()
}

const FIRST_TIME: u64 = 1_700_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::{Account, lines, recorded, selected};

    #[test]
    fn what_is_written_is_found_again() {
        let text = lines(3..6);
        assert!(
            text.starts_with("demo v=3i 1700000000000000003\n"),
            "{text}"
        );
        assert_eq!(recorded(&text), [3, 4, 5].into());
        let csv = "name,tags,time,v\ndemo,,1700000000000000003,3\ndemo,,1700000000000000004,4\n";
        assert_eq!(selected(csv), [3, 4].into());
        assert!(selected("").is_empty() && recorded("x\n").is_empty());
    }

    #[test]
    fn it_adds_up_only_if_both_have_all_that_was_acknowledged() {
        let mut account = Account {
            acknowledged: [1, 2].into(),
            has: [[1, 2, 3].into(), [2].into()],
            ..Account::default()
        };
        assert_eq!((account.missing(), account.adds_up()), ([0, 1], false));
        account.has[1].insert(1);
        assert!(account.adds_up(), "more than was acknowledged is no loss");
        assert!(!Account::default().adds_up(), "nothing is no proof");
    }
}
