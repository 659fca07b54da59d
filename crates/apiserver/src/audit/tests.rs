use std::sync::Arc;
use std::time::Duration;

use access::audit::{Event, Level};
use access::{Attributes, User};
use jiff::{Timestamp, ToSpan};

use super::log::tests::{old_names, tidy_now};
use super::*;

pub(super) fn event(name: &str) -> Arc<Event> {
    let request = Attributes::path(&User::new("jane", &[]), "get", "/version");
    let mut event = Event::new(Level::Metadata, name, &request, Timestamp::UNIX_EPOCH);
    "/version".clone_into(&mut event.request_uri);
    Arc::new(event)
}

fn log(path: PathBuf, mode: DeliveryMode, buffer: usize) -> LogOptions {
    LogOptions {
        path: Some(path),
        json: true,
        max_bytes: 0,
        max_age_days: 0,
        max_backups: 0,
        compress: false,
        delivery: Delivery {
            mode,
            batch: Batch {
                buffer,
                max_size: 3,
                max_wait: Duration::from_secs(3600),
                throttle: Some((1000.0, 1)),
            },
            max_event_bytes: None,
        },
    }
}

fn lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_full_file_is_put_aside_and_old_ones_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("logs/audit.log");
    let mut options = log(path.clone(), DeliveryMode::Blocking, 1);
    let length = event("1").to_json().len() as u64 + 1;
    options.max_bytes = 2 * length;
    let file = LogFile::open(&options).expect("a file");
    file.write(&[event("1"), event("2")]).expect("written");
    file.write(&[event("3")]).expect("written");
    assert_eq!(lines(&path).len(), 1);
    let names = old_names(&path);
    assert_eq!(names.len(), 1);
    assert!(
        names[0].starts_with("audit-") && names[0].ends_with(".log"),
        "{names:?}"
    );
    let now = Timestamp::now();
    let stamps = ["2020-01-01T00-00-00.000", "2020-01-02T00-00-00.000"];
    for stamp in stamps {
        std::fs::write(dir.path().join(format!("logs/audit-{stamp}.log")), "x").expect("a file");
    }
    options.compress = true;
    tidy_now(&path, &options, now);
    assert!(
        old_names(&path)
            .iter()
            .all(|name| name.ends_with(".log.gz"))
    );
    options.max_backups = 2;
    tidy_now(&path, &options, now);
    assert_eq!(old_names(&path).len(), 2);
    options.max_age_days = 1;
    tidy_now(&path, &options, now + 72.hours());
    assert!(old_names(&path).is_empty());
}

#[tokio::test]
async fn events_beyond_the_bound_are_lost_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.log");
    let options = log(path.clone(), DeliveryMode::Batch, 5);
    let target = Arc::new(Target::Log(LogFile::open(&options).expect("a file")));
    let counts = Arc::new(Counts::default());
    let backend = Backend::new(options.delivery, target, &counts);
    // Nothing runs beside this until it waits: the queue takes five.
    for n in 0..8 {
        assert!(backend.take(&event(&n.to_string()), &counts).await);
    }
    assert_eq!(counts.errors.lock().get("buffered"), Some(&3));
    backend.queue.as_ref().expect("a queue").flush().await;
    assert_eq!(lines(&path).len(), 5);
    let mut page = String::new();
    counts.render(&mut page);
    assert!(
        page.contains("apiserver_audit_error_total{plugin=\"buffered\"} 3"),
        "{page}"
    );
}

#[tokio::test]
async fn a_strict_log_that_fails_refuses_the_request() {
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]";
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    for (mode, goes_on) in [
        (DeliveryMode::Blocking, true),
        (DeliveryMode::BlockingStrict, false),
    ] {
        // A device that takes nothing.
        let log = log("/dev/full".into(), mode, 1);
        let options = AuditOptions {
            policy: Some(policy.clone()),
            log: Some(log),
            webhook: None,
        };
        let audit = Audit::open(options).expect("open").expect("on");
        assert_eq!(audit.emit(Event::clone(&event("1"))).await, goes_on);
        assert_eq!(audit.counts.errors.lock().get("log"), Some(&1));
    }
}
