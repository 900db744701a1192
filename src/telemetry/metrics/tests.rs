//! Names, labels and formats.

use jiff::Timestamp;

use super::*;
use crate::controller::tell::{NamespaceCounts, TokenExpiries};
use crate::core::aws::Endpoint;
use crate::core::grants::IdentityName;

fn counted(tokens: &[(&str, i64)]) -> Counted {
    let second = |second| Timestamp::from_second(second).ok();
    let namespaces = NamespaceCounts {
        ready: 2,
        blocked: 1,
        earliest_expiry: second(7),
        earliest_refresh: second(6),
        ..NamespaceCounts::default()
    };
    let token = |(identity, expiry): &(&str, i64)| {
        ((IdentityName::new(identity), Endpoint::Public), Timestamp::from_second(*expiry).expect("a time"))
    };
    let tokens: TokenExpiries = tokens.iter().map(token).collect();
    Counted { namespaces, tokens, in_sync_at: second(5), ..Counted::default() }
}

fn value(metrics: &Metrics, series: &str) -> Option<String> {
    let text = metrics.encode(Format::Text);
    text.lines().find_map(|line| Some(line.strip_prefix(series)?.strip_prefix(' ')?.to_owned()))
}

#[test]
fn metrics_have_the_documented_names_and_labels() {
    let metrics = Metrics::default();
    metrics.secret_write(Operation::Create, "Missing", "success", Duration::from_millis(3));
    metrics.aws_request("success", Duration::from_millis(3));
    metrics.counted(counted(&[("a", 8)]));
    for (series, expected) in [
        (r#"secret_writes_total{operation="create",reason="Missing",result="success"}"#, "1"),
        (r#"secret_write_duration_seconds_count{operation="create"}"#, "1"),
        (r#"aws_requests_total{operation="GetAuthorizationToken",result="success"}"#, "1"),
        (r#"namespaces{state="ready"}"#, "2"),
        (r#"namespaces{state="blocked"}"#, "1"),
        (r#"held_removals{cause="identities"}"#, "0"),
        ("secret_expiration_timestamp_seconds", "7"),
        ("secret_refresh_timestamp_seconds", "6"),
        ("last_successful_sync_timestamp_seconds", "5"),
        (r#"token_expiration_timestamp_seconds{identity="a",endpoint="public"}"#, "8"),
        (concat!(r#"build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), "1"),
        ("leader", "0"),
    ] {
        let found = value(&metrics, &format!("ecr_pull_secrets_{series}"));
        assert_eq!(found.as_deref(), Some(expected), "{series}");
    }
}

/// `rate()` needs a sample before the first failure.
#[test]
fn counters_exist_before_the_first_request() {
    let metrics = Metrics::default();
    for series in [
        r#"secret_writes_total{operation="create",reason="Missing",result="admission_denied"}"#,
        r#"secret_writes_total{operation="update",reason="ForeignWrite",result="success"}"#,
        r#"secret_writes_total{operation="delete",reason="OptedOut",result="forbidden"}"#,
        r#"aws_requests_total{operation="GetAuthorizationToken",result="assume_role_denied"}"#,
        r#"aws_requests_total{operation="GetAuthorizationToken",result="success"}"#,
        r#"kubernetes_requests_total{verb="patch",resource="secrets",code="0"}"#,
        r#"kubernetes_requests_total{verb="update",resource="leases",code="503"}"#,
        r#"secret_write_duration_seconds_count{operation="delete"}"#,
    ] {
        assert_eq!(value(&metrics, &format!("ecr_pull_secrets_{series}")).as_deref(), Some("0"), "{series}");
    }
}

#[test]
fn a_token_that_is_no_longer_used_has_no_series() {
    let metrics = Metrics::default();
    let count = || {
        metrics.encode(Format::Text).matches("ecr_pull_secrets_token_expiration_timestamp_seconds{").count()
    };
    metrics.counted(counted(&[("a", 8), ("b", 9)]));
    assert_eq!(count(), 2);
    metrics.counted(counted(&[("b", 9)]));
    assert_eq!(count(), 1);
}

#[test]
fn the_text_format_is_the_default_and_open_metrics_is_for_clients_that_accept_it() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        (None, Format::Text),
        (Some("*/*"), Format::Text),
        (Some("text/plain; version=0.0.4"), Format::Text),
        (Some(prometheus), Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
    let metrics = Metrics::default();
    let (text, open) = (metrics.encode(Format::Text), metrics.encode(Format::OpenMetrics));
    let name = "ecr_pull_secrets_aws_requests";
    assert!(open.contains(&format!("# TYPE {name} counter\n")) && open.ends_with("# EOF\n"), "{open}");
    assert!(text.contains(&format!("# TYPE {name}_total counter\n{name}_total{{")), "{text}");
    assert!(text.contains(&format!("# HELP {name}_total Token requests")) && !text.contains("EOF"), "{text}");
    assert!(text.contains("# TYPE ecr_pull_secrets_leader gauge\n"), "{text}");
    let samples = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&text), samples(&open));
}

#[cfg(target_os = "linux")]
#[test]
fn the_metrics_of_the_process_are_those_of_other_client_libraries() {
    let metrics = Metrics::default();
    let number = |series: &str| value(&metrics, series).and_then(|value| value.parse::<f64>().ok());
    for series in ["process_cpu_seconds_total", "process_max_fds", "process_virtual_memory_bytes"] {
        assert!(number(series).is_some(), "{series}");
    }
    assert!(number("process_open_fds").is_some_and(|open| open >= 3.0));
    assert!(number("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6));
    let now = Timestamp::now().as_second();
    #[allow(clippy::cast_precision_loss)]
    let age = number("process_start_time_seconds").map(|start| now as f64 - start);
    assert!(age.is_some_and(|age| (-2.0..86_400.0).contains(&age)), "{age:?}");
}
