//! Flags of audit, as upstream has them.

use std::path::PathBuf;
use std::time::Duration;

use access::audit::Policy;
use anyhow::{Context, bail};
use apiserver::{AuditOptions, Batch, Delivery, DeliveryMode, LogOptions, WebhookOptions};
use clap::Args;
use clap::builder::ArgAction;

use super::flags::duration;

/// What is written down of requests, and where.
#[derive(Args, Clone, Default)]
pub(crate) struct AuditFlags {
    /// File with the policy: how much of which requests.
    #[arg(long)]
    audit_policy_file: Option<PathBuf>,
    /// File for the events; - is the standard output.
    #[arg(long)]
    audit_log_path: Option<PathBuf>,
    /// Days after which old files go; 0: never.
    #[arg(long, default_value_t = 366)]
    audit_log_maxage: u64,
    /// How many old files are kept; 0: all.
    #[arg(long, default_value_t = 100)]
    audit_log_maxbackup: usize,
    /// Megabytes after which a new file is begun; 0: never.
    #[arg(long, default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Old files are compressed.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_compress: bool,
    /// Form of a line: json, or legacy for people.
    #[arg(long, default_value = "json", value_parser = ["json", "legacy"])]
    audit_log_format: String,
    /// Version of the events.
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    audit_log_version: String,
    /// Whether requests wait for their events: batch, blocking or blocking-strict.
    #[arg(long, default_value = "blocking", value_parser = ["batch", "blocking", "blocking-strict"])]
    audit_log_mode: String,
    /// How many events may wait; beyond it they are lost. Only for batches.
    #[arg(long, default_value_t = 10_000)]
    audit_log_batch_buffer_size: usize,
    /// How many events are written at once. Only for batches.
    #[arg(long, default_value_t = 1)]
    audit_log_batch_max_size: usize,
    /// How long an event waits for others. Only for batches.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    audit_log_batch_max_wait: Duration,
    /// There is a limit of batches a second.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_batch_throttle_enable: bool,
    /// The limit.
    #[arg(long, default_value_t = 0.0)]
    audit_log_batch_throttle_qps: f64,
    /// How many batches may go at once after a pause.
    #[arg(long, default_value_t = 0)]
    audit_log_batch_throttle_burst: u32,
    /// Events that are too long lose their bodies.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_log_truncate_enabled: bool,
    /// Bytes beyond which an event is too long.
    #[arg(long, default_value_t = 102_400)]
    audit_log_truncate_max_event_size: usize,
    #[command(flatten)]
    webhook: WebhookFlags,
}

/// A server elsewhere that takes events.
#[derive(Args, Clone, Default)]
struct WebhookFlags {
    /// Kubeconfig of the server.
    #[arg(long)]
    audit_webhook_config_file: Option<PathBuf>,
    /// The pause after the first try that failed.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    audit_webhook_initial_backoff: Duration,
    /// Version of the events.
    #[arg(long, default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    audit_webhook_version: String,
    /// Whether requests wait for their events: batch, blocking or blocking-strict.
    #[arg(long, default_value = "batch", value_parser = ["batch", "blocking", "blocking-strict"])]
    audit_webhook_mode: String,
    /// How many events may wait; beyond it they are lost. Only for batches.
    #[arg(long, default_value_t = 10_000)]
    audit_webhook_batch_buffer_size: usize,
    /// How many events are sent at once. Only for batches.
    #[arg(long, default_value_t = 400)]
    audit_webhook_batch_max_size: usize,
    /// How long an event waits for others. Only for batches.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    audit_webhook_batch_max_wait: Duration,
    /// There is a limit of batches a second.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_webhook_batch_throttle_enable: bool,
    /// The limit.
    #[arg(long, default_value_t = 10.0)]
    audit_webhook_batch_throttle_qps: f64,
    /// How many batches may go at once after a pause.
    #[arg(long, default_value_t = 15)]
    audit_webhook_batch_throttle_burst: u32,
    /// Events that are too long lose their bodies, and batches that are too long are cut.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    audit_webhook_truncate_enabled: bool,
    /// Bytes beyond which an event is too long.
    #[arg(long, default_value_t = 102_400)]
    audit_webhook_truncate_max_event_size: usize,
    /// Bytes beyond which a batch is too long.
    #[arg(long, default_value_t = 10_485_760)]
    audit_webhook_truncate_max_batch_size: usize,
}

impl WebhookFlags {
    fn options(&self) -> anyhow::Result<Option<WebhookOptions>> {
        let Some(kubeconfig) = self.audit_webhook_config_file.clone() else {
            return Ok(None);
        };
        let mode = mode(&self.audit_webhook_mode);
        let throttle = (
            self.audit_webhook_batch_throttle_qps,
            self.audit_webhook_batch_throttle_burst,
        );
        let batch = Batch {
            buffer: self.audit_webhook_batch_buffer_size,
            max_size: self.audit_webhook_batch_max_size,
            max_wait: self.audit_webhook_batch_max_wait,
            throttle: (self.audit_webhook_batch_throttle_enable).then_some(throttle),
        };
        if mode == DeliveryMode::Batch {
            check_batch("webhook", &batch)?;
        }
        let truncates = self.audit_webhook_truncate_enabled;
        Ok(Some(WebhookOptions {
            kubeconfig,
            initial_backoff: self.audit_webhook_initial_backoff,
            max_batch_bytes: truncates.then_some(self.audit_webhook_truncate_max_batch_size),
            delivery: Delivery {
                mode,
                batch,
                max_event_bytes: truncates.then_some(self.audit_webhook_truncate_max_event_size),
            },
        }))
    }
}

fn mode(name: &str) -> DeliveryMode {
    match name {
        "batch" => DeliveryMode::Batch,
        "blocking" => DeliveryMode::Blocking,
        _ => DeliveryMode::BlockingStrict,
    }
}

fn check_batch(of: &str, batch: &Batch) -> anyhow::Result<()> {
    if batch.buffer == 0 {
        bail!("invalid audit batch {of} buffer size 0, must be a positive number");
    }
    if batch.max_size == 0 {
        bail!("invalid audit batch {of} max batch size 0, must be a positive number");
    }
    let Some((qps, burst)) = batch.throttle else {
        return Ok(());
    };
    if qps <= 0.0 || qps.is_nan() {
        bail!("invalid audit batch {of} throttle QPS {qps}, must be a positive number");
    }
    if burst == 0 {
        bail!("invalid audit batch {of} throttle burst 0, must be a positive number");
    }
    Ok(())
}

impl AuditFlags {
    /// What the flags say.
    pub(crate) fn options(&self) -> anyhow::Result<AuditOptions> {
        let policy = match &self.audit_policy_file {
            None => None,
            Some(path) => {
                let what = || format!("loading audit policy file: {}", path.display());
                let text = std::fs::read(path).with_context(what)?;
                Some(Policy::parse(&text).with_context(what)?)
            }
        };
        if self.audit_log_path.is_some() && policy.is_none() {
            tracing::warn!(
                "no audit policy file provided, no events will be recorded for log backend"
            );
        }
        Ok(AuditOptions {
            policy,
            log: match &self.audit_log_path {
                None => None,
                Some(path) => Some(self.log(path)?),
            },
            webhook: self.webhook.options()?,
        })
    }

    fn log(&self, path: &std::path::Path) -> anyhow::Result<LogOptions> {
        let mode = mode(&self.audit_log_mode);
        let throttle = (
            self.audit_log_batch_throttle_qps,
            self.audit_log_batch_throttle_burst,
        );
        let batch = Batch {
            buffer: self.audit_log_batch_buffer_size,
            max_size: self.audit_log_batch_max_size,
            max_wait: self.audit_log_batch_max_wait,
            throttle: self.audit_log_batch_throttle_enable.then_some(throttle),
        };
        if mode == DeliveryMode::Batch {
            check_batch("log", &batch)?;
        }
        Ok(LogOptions {
            path: (path.as_os_str() != "-").then(|| path.to_owned()),
            json: self.audit_log_format == "json",
            max_bytes: self.audit_log_maxsize << 20,
            max_age_days: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            compress: self.audit_log_compress,
            delivery: Delivery {
                mode,
                batch,
                max_event_bytes: self
                    .audit_log_truncate_enabled
                    .then_some(self.audit_log_truncate_max_event_size),
            },
        })
    }
}
