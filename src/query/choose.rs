//! Who is asked, and in which order. Pure.

use crate::plan::BackendId;

/// One backend that speaks the language, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: BackendId,
    /// Whether it answers.
    pub up: bool,
    /// Bytes that it is owed; `None` if it is level.
    pub owed: Option<u64>,
    /// Questions that this shard has asked it and that are not answered yet.
    pub outstanding: usize,
}

/// The order in which they are asked: those that are level and up, the least busy first; if there are none,
/// those that are up and owed something, the least owed first; and last those that are down, since
/// what is known of them may be old. `turn` shares equal ones out. Once per query.
pub fn order(candidates: &mut [Candidate], turn: usize) {
    let count = candidates.len().max(1);
    candidates.rotate_left(turn % count);
    candidates.sort_by_key(|one| {
        let debt = one.owed.map_or(0, |owed| owed.saturating_add(1));
        (!one.up, debt, one.outstanding)
    });
    // Who is owed something answers only if nobody else is there.
}

/// How many of the ordered are asked: where one that is up is level, no other kind is.
pub fn how_many(ordered: &[Candidate]) -> usize {
    let level = ordered
        .iter()
        .filter(|one| one.up && one.owed.is_none())
        .count();
    match level {
        0 => ordered.len(),
        level => level,
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, how_many, order};
    use crate::plan::BackendId;

    fn candidate(id: usize, up: bool, owed: Option<u64>, outstanding: usize) -> Candidate {
        Candidate {
            id: BackendId(id),
            up,
            owed,
            outstanding,
        }
    }

    fn asked(mut candidates: Vec<Candidate>, turn: usize) -> Vec<usize> {
        order(&mut candidates, turn);
        let count = how_many(&candidates);
        candidates[..count].iter().map(|one| one.id.0).collect()
    }

    #[test]
    fn level_ones_by_load_and_no_other_beside_them() {
        let all = vec![
            candidate(0, true, Some(0), 0),
            candidate(1, true, None, 3),
            candidate(2, false, None, 0),
            candidate(3, true, None, 1),
        ];
        assert_eq!(asked(all, 0), [3, 1]);
    }

    #[test]
    fn owed_ones_if_no_other_is_up_and_then_those_that_are_down() {
        let all = vec![
            candidate(0, false, None, 0),
            candidate(1, true, Some(9), 0),
            candidate(2, true, Some(0), 5),
        ];
        assert_eq!(asked(all, 0), [2, 1, 0]);
        assert_eq!(asked(vec![candidate(0, false, None, 0)], 7), [0]);
        assert_eq!(asked(Vec::new(), 3), [0; 0]);
    }

    #[test]
    fn equal_ones_take_turns() {
        let all = || (0..3).map(|id| candidate(id, true, None, 0)).collect();
        assert_eq!(asked(all(), 0), [0, 1, 2]);
        assert_eq!(asked(all(), 1), [1, 2, 0]);
        assert_eq!(asked(all(), 5), [2, 0, 1]);
    }
}
