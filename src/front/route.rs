//! Which request goes where: a table of paths and methods. Pure.

use crate::backend::outgoing::Kind;
use crate::http::request::Method;
use crate::metrics::{Path, Verb};
use crate::query::question::Language;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To every backend.
    Write(Kind),
    /// To one backend; or, if it changes something, to every one.
    Query(Language),
    /// To the backends' version and a status.
    Ping,
    /// To what the veepee fork calls health.
    Health,
    /// To whether this relay can take a write.
    Ready,
    /// To whether one backend is up; its name is what stands behind this many bytes of the path.
    ReadyBackend(usize),
    /// To what is known of each backend.
    Status,
    /// To the counters.
    Metrics,
    /// To every backend, whatever it does, and its answers back.
    Everywhere,
    /// To the dropping of what backends are owed.
    Flush,
    /// OPTIONS: 204 with these methods.
    Options(&'static str),
    /// 405 with these methods.
    WrongMethod(&'static str),
    /// 404.
    Nowhere,
}

const READY: &[u8] = b"/ready/";

/// Where `method path` goes, and the label that counts it. `admin` is whether it came in at the admin
/// address, which takes no writes and shows the counters.
pub fn route(method: Method, path: &[u8], admin: bool) -> (Path, Route) {
    let (label, get) = match path {
        b"/write" if !admin => return write(method, Path::Write, Kind::Write),
        b"/api/v2/write" if !admin => return write(method, Path::WriteV2, Kind::WriteV2),
        b"/api/v3/write_lp" if !admin => return write(method, Path::WriteV3, Kind::WriteV3),
        b"/api/v1/prom/write" if !admin => {
            return write(method, Path::PromWrite, Kind::RemoteWrite);
        }
        b"/api/v1/write" if !admin => return write(method, Path::RemoteWrite, Kind::RemoteWrite),
        b"/query" if !admin => return query(method, Path::Query, Language::InfluxQl),
        b"/api/v2/query" if !admin => {
            return post(method, Path::QueryV2, Route::Query(Language::Flux));
        }
        b"/api/v1/prom/read" | b"/api/v1/read" if !admin => {
            return post(method, Path::RemoteRead, Route::Query(Language::RemoteRead));
        }
        b"/api/v1/query"
        | b"/api/v1/query_range"
        | b"/api/v1/series"
        | b"/api/v1/labels"
        | b"/api/v1/metadata"
            if !admin =>
        {
            return query(method, Path::PromQuery, Language::PromQl);
        }
        _ if !admin && is_label_values(path) => {
            return query(method, Path::PromQuery, Language::PromQl);
        }
        b"/admin" => return post(method, Path::Admin, Route::Everywhere),
        b"/admin/flush" => return post(method, Path::Flush, Route::Flush),
        b"/metrics" if admin => (Path::Metrics, Route::Metrics),
        b"/ping" => (Path::Ping, Route::Ping),
        b"/health" => (Path::Health, Route::Health),
        b"/status" => (Path::Status, Route::Status),
        b"/ready" => (Path::Ready, Route::Ready),
        _ if path.starts_with(READY) => (Path::Ready, Route::ReadyBackend(READY.len())),
        _ => return (Path::Other, Route::Nowhere),
    };
    match method {
        Method::Get | Method::Head => (label, get),
        Method::Options => (label, Route::Options("GET, HEAD, OPTIONS")),
        _ => (label, Route::WrongMethod("GET, HEAD, OPTIONS")),
    }
}

fn write(method: Method, label: Path, kind: Kind) -> (Path, Route) {
    post(method, label, Route::Write(kind))
}

fn query(method: Method, label: Path, language: Language) -> (Path, Route) {
    match method {
        Method::Get | Method::Post => (label, Route::Query(language)),
        Method::Options => (label, Route::Options("GET, POST, OPTIONS")),
        _ => (label, Route::WrongMethod("GET, POST, OPTIONS")),
    }
}

/// `/api/v1/label/NAME/values`
fn is_label_values(path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/api/v1/label/");
    let name = name.and_then(|rest| rest.strip_suffix(b"/values"));
    name.is_some_and(|name| !name.is_empty() && !name.contains(&b'/'))
}

fn post(method: Method, label: Path, route: Route) -> (Path, Route) {
    match method {
        Method::Post => (label, route),
        Method::Options => (label, Route::Options("POST")),
        _ => (label, Route::WrongMethod("POST")),
    }
}

/// The label of a method.
pub fn verb(method: Method) -> Verb {
    match method {
        Method::Get => Verb::Get,
        Method::Head => Verb::Head,
        Method::Post => Verb::Post,
        Method::Options => Verb::Options,
        _ => Verb::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, route};
    use crate::backend::outgoing::Kind;
    use crate::http::request::Method;
    use crate::metrics::Path;

    #[test]
    fn writes_go_where_they_belong_and_nowhere_else() {
        assert_eq!(
            route(Method::Post, b"/write", false),
            (Path::Write, Route::Write(Kind::Write))
        );
        assert_eq!(
            route(Method::Post, b"/api/v1/write", false).1,
            Route::Write(Kind::RemoteWrite)
        );
        assert_eq!(
            route(Method::Get, b"/write", false).1,
            Route::WrongMethod("POST")
        );
        assert_eq!(
            route(Method::Options, b"/write", false).1,
            Route::Options("POST")
        );
        for path in [
            &b"/write/"[..],
            b"/writes",
            b"/Write",
            b"/",
            b"",
            b"/api/v2/writ",
            b"//write",
        ] {
            assert_eq!(route(Method::Post, path, false).1, Route::Nowhere);
        }
    }

    #[test]
    fn the_admin_address_takes_no_writes_and_the_door_shows_no_counters() {
        assert_eq!(route(Method::Post, b"/write", true).1, Route::Nowhere);
        assert_eq!(route(Method::Get, b"/metrics", true).1, Route::Metrics);
        assert_eq!(route(Method::Get, b"/metrics", false).1, Route::Nowhere);
    }

    #[test]
    fn what_changes_something_is_posted_at_both_doors() {
        for admin in [false, true] {
            for (path, label, posted) in [
                (&b"/admin"[..], Path::Admin, Route::Everywhere),
                (b"/admin/flush", Path::Flush, Route::Flush),
            ] {
                for (method, want) in [
                    (Method::Post, posted),
                    (Method::Options, Route::Options("POST")),
                    (Method::Get, Route::WrongMethod("POST")),
                    (Method::Head, Route::WrongMethod("POST")),
                    (Method::Put, Route::WrongMethod("POST")),
                    (Method::Delete, Route::WrongMethod("POST")),
                ] {
                    assert_eq!(route(method, path, admin), (label, want));
                }
            }
            for path in [
                &b"/admins"[..],
                b"/admin/",
                b"/admin/flush/",
                b"/Admin/flush",
            ] {
                assert_eq!(route(Method::Post, path, admin).1, Route::Nowhere);
            }
        }
    }

    #[test]
    fn a_backend_is_asked_for_by_name() {
        assert_eq!(route(Method::Get, b"/ready", false).1, Route::Ready);
        assert_eq!(
            route(Method::Head, b"/ready/a", false).1,
            Route::ReadyBackend(7)
        );
        assert_eq!(
            route(Method::Post, b"/ready/a", false).1,
            Route::WrongMethod("GET, HEAD, OPTIONS")
        );
    }
}
