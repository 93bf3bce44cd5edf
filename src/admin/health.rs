//! `/health` as the veepee fork answers it: every backend is asked now, and the answer is always 200.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

use crate::admin::called;
use crate::backend::probe;
use crate::plan::{BackendId, ListenerPlan};
use crate::shard::Shard;

/// The page. Empty maps are left out, as the fork does.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Page {
    status: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    healthy: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    problem: BTreeMap<String, String>,
}

/// Asks the listener's backends, all at once, and makes a page of what they say.
pub async fn page(shard: &Rc<Shard>, listener: &ListenerPlan) -> String {
    let asked: Vec<_> = listener
        .outputs
        .iter()
        .map(|&BackendId(index)| {
            let backend = Rc::clone(&shard.backends[index]);
            let wait = listener.health_timeout;
            let name = called(&shard.world, &listener.outputs, backend.id);
            glommio::spawn_local(async move { (name, probe::ask(&backend, wait).await) })
        })
        .collect();
    let mut heard = Vec::new();
    for task in asked {
        let (name, answer) = task.await;
        heard.push((
            name,
            match answer {
                Ok(heard) if (200..300).contains(&heard.status) => {
                    Ok(format!("OK. Time taken {:?}", heard.took))
                }
                Ok(heard) => Err(format!("KO. Unexpected error code {}", heard.status)),
                Err(why) => Err(format!("KO. {why}")),
            },
        ));
    }
    words(heard)
}

fn words(heard: Vec<(String, Result<String, String>)>) -> String {
    let (mut healthy, mut problem) = (BTreeMap::new(), BTreeMap::new());
    for (name, answer) in heard {
        match answer {
            Ok(words) => healthy.insert(name, words),
            Err(words) => problem.insert(name, words),
        };
    }
    let status = match (healthy.is_empty(), problem.is_empty()) {
        (true, _) => "critical",
        (false, true) => "healthy",
        (false, false) => "problem",
    };
    let page = Page {
        status,
        healthy,
        problem,
    };
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_three_states_of_the_fork() {
        let ok = || ("a".to_owned(), Ok("OK. Time taken 1ms".to_owned()));
        let ko = || ("b".to_owned(), Err("KO. no".to_owned()));
        assert_eq!(
            words(vec![ok()]),
            "{\"status\":\"healthy\",\"healthy\":{\"a\":\"OK. Time taken 1ms\"}}\n"
        );
        assert!(words(vec![ok(), ko()]).starts_with("{\"status\":\"problem\",\"healthy\""));
        assert_eq!(
            words(vec![ko()]),
            "{\"status\":\"critical\",\"problem\":{\"b\":\"KO. no\"}}\n"
        );
        assert_eq!(words(vec![]), "{\"status\":\"critical\"}\n");
    }
}
