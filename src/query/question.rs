//! What is asked, in which language, and at which path a backend of each kind answers it. Pure.

use crate::backend::outgoing::Request;
use crate::http::header::line_value;
use crate::http::request::Method;
use crate::plan::{BackendKind, BackendPlan};
use crate::query::form::{Body, query_text};
use crate::query::influxql::Does;

/// The language of a question, which says who can answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `/query` of InfluxDB 1.x: reads and writes.
    InfluxQl,
    /// `/api/v2/query` of InfluxDB 2.x.
    Flux,
    /// Prometheus' remote-read.
    RemoteRead,
    /// Prometheus' own reads.
    PromQl,
}

/// A question, beside what the flight holds of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// GET or POST.
    pub method: Method,
    /// Its language.
    pub language: Language,
    /// The path as the client wrote it.
    pub path: Vec<u8>,
}

impl Question {
    /// What it does, as far as that decides who gets it. Once per query, when its body has come.
    pub fn does(&self, request: &Request) -> Does {
        if self.language != Language::InfluxQl {
            return Does::Reads;
        }
        let mut text = Vec::new();
        query_text(&request.query, self.body(request), &mut text).does()
    }

    /// What it brings besides its target.
    pub fn body<'r>(&self, request: &'r Request) -> Body<'r> {
        match line_value(&request.headers, "content-encoding") {
            Some(_) if !request.body.is_empty() => Body::Other,
            _ => Body::of(line_value(&request.headers, "content-type"), &request.body),
        }
    }

    /// The path at this backend; `None` if it does not speak the language.
    pub fn path_at(&self, plan: &BackendPlan) -> Option<Vec<u8>> {
        let own = plan.endpoints.query.as_str();
        let behind = |suffix: &str| own.strip_suffix(suffix).unwrap_or_default().as_bytes();
        let is_influx = plan.kind == BackendKind::InfluxDb;
        let is_prometheus = matches!(
            plan.kind,
            BackendKind::Prometheus | BackendKind::VictoriaMetrics
        );
        if plan.kind == BackendKind::Relay {
            return Some([behind("/query"), &self.path].concat());
        }
        match self.language {
            Language::InfluxQl => is_influx.then(|| own.as_bytes().to_vec()),
            Language::Flux => is_influx.then(|| [behind("/query"), &self.path].concat()),
            Language::RemoteRead if is_influx => {
                Some([behind("/query"), b"/api/v1/prom/read"].concat())
            }
            Language::RemoteRead => {
                is_prometheus.then(|| [behind("/api/v1/query"), b"/api/v1/read"].concat())
            }
            Language::PromQl => {
                is_prometheus.then(|| [behind("/api/v1/query"), &self.path].concat())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Language, Question};
    use crate::backend::outgoing::Request;
    use crate::http::request::Method;
    use crate::query::influxql::Does;

    fn question(language: Language) -> Question {
        Question {
            method: Method::Post,
            language,
            path: b"/query".to_vec(),
        }
    }

    fn request(query: &str, headers: &str, body: &str) -> Request {
        let mut request = Request::default();
        request.query = query.into();
        request.headers = headers.into();
        request.body = body.into();
        request
    }

    #[test]
    fn the_form_decides_and_what_is_unclear_goes_to_all() {
        let form =
            "Accept: */*\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
        for (query, headers, body, does) in [
            ("q=SHOW+DATABASES", "", "", Does::Reads),
            ("db=x", form, "q=SELECT+1", Does::Reads),
            ("db=x", form, "q=DROP+DATABASE+x", Does::Writes),
            ("q=SHOW+DATABASES", form, "q=DROP+DATABASE+x", Does::Writes),
            ("q=SHOW+DATABASES", "", "something", Does::Writes),
            (
                "q=SHOW+DATABASES",
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
                "x",
                Does::Writes,
            ),
            ("", "", "", Does::Nothing),
        ] {
            let request = request(query, headers, body);
            let found = question(Language::InfluxQl).does(&request);
            assert_eq!(found, does, "{query} {headers} {body}");
        }
        let flux = request("org=o", "", "anything");
        assert_eq!(question(Language::Flux).does(&flux), Does::Reads);
    }
}
