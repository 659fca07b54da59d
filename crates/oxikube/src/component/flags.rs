//! Flags that components share, and the forms in which upstream writes values.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::builder::ArgAction;
use clap::{ArgMatches, Args, Command};
use serving::about;

/// Flags of every component.
#[derive(Args, Clone)]
pub(super) struct Common {
    /// How detailed the log is.
    #[arg(short, long, default_value_t = 0, value_name = "LEVEL")]
    v: u8,
    /// Form of the log: text or json.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    logging_format: String,
    /// Switches of features; what is generally available is always on here, and nothing else is there.
    #[arg(long, value_delimiter = ',', value_name = "NAME=BOOL")]
    feature_gates: Vec<String>,
    /// All of them, as they came to be.
    #[arg(skip)]
    told: OnceLock<about::Flags>,
}

/// Every flag and its value, as `/flagz` tells them: those of several values in brackets, what is not set empty.
pub(super) fn told(command: &Command, matches: &ArgMatches) -> about::Flags {
    let flags = command.get_arguments().filter_map(|argument| {
        let name = argument.get_long()?;
        let values = matches.try_get_raw(argument.get_id().as_str());
        let values = values.ok().flatten().into_iter().flatten();
        let values: Vec<String> = values
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let several = matches!(argument.get_action(), ArgAction::Append)
            || argument.get_value_delimiter().is_some();
        let value = match argument.get_action() {
            ArgAction::Help | ArgAction::Version => "false".to_owned(),
            _ if several => format!("[{}]", values.join(",")),
            _ => values.last().cloned().unwrap_or_default(),
        };
        Some((name.to_owned(), value))
    });
    flags.collect()
}

impl Common {
    /// Remembers the whole command line, of which this is a part.
    pub(super) fn tell(&self, flags: about::Flags) {
        // Flags are parsed once.
        let _ = self.told.set(flags);
    }

    /// The whole command line, as it came to be.
    pub(super) fn told(&self) -> about::Flags {
        self.told.get().cloned().unwrap_or_default()
    }

    /// Starts the log.
    pub(super) fn init_logs(&self) {
        super::init_logs(self.v, self.logging_format == "json");
        for gate in &self.feature_gates {
            tracing::warn!(gate, "feature gates change nothing here");
        }
    }
}

/// Where a component serves health and metrics, and whom it lets in.
#[derive(Args, Clone)]
pub(super) struct Secure {
    /// Address of the HTTPS port.
    #[arg(long, default_value = "0.0.0.0")]
    pub(super) bind_address: IpAddr,
    /// File with the serving certificate; without it one is made that nobody has signed.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// File with the authority of clients' certificates; without it the API server is asked for its own.
    #[arg(long)]
    pub(super) client_ca_file: Option<PathBuf>,
    /// Kubeconfig with which tokens of callers are reviewed.
    #[arg(long)]
    pub(super) authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig with which rights of callers are asked for.
    #[arg(long)]
    pub(super) authorization_kubeconfig: Option<PathBuf>,
    /// Go on when the API server does not tell its authority of clients.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    authentication_tolerate_lookup_failure: bool,
    #[command(flatten)]
    unused: UnusedBySecure,
}

/// Flags that clusters in the wild carry and that change nothing on such a port.
#[derive(Args, Clone)]
struct UnusedBySecure {
    /// Authority of a proxy that speaks for users; none is believed here.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Names of that proxy.
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Its headers with the user.
    #[arg(long, value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// Its headers with the user's UID.
    #[arg(long, value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    /// Its headers with the user's groups.
    #[arg(long, value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// The beginning of its other headers.
    #[arg(long, value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Profiles are not served.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    profiling: Option<bool>,
}

impl Secure {
    /// The address to listen on; none for port 0.
    pub(super) fn address(&self, port: u16) -> Option<SocketAddr> {
        (port != 0).then(|| SocketAddr::new(self.bind_address, port))
    }

    /// The serving certificate.
    pub(super) fn certificate(&self) -> anyhow::Result<std::sync::Arc<serving::Certificate>> {
        match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                let made = serving::Certificate::from_pem(&read(certificate)?, &read(key)?);
                made.with_context(|| format!("cannot use {}", certificate.display()))
            }
            _ => Ok(serving::Certificate::self_signed(&[
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
            ])?),
        }
    }

    /// Whether a component may start without knowing who signs its clients.
    pub(super) fn tolerates(&self) -> bool {
        self.authentication_tolerate_lookup_failure
    }
}

/// Several processes of one component: which of them works.
#[derive(Args, Clone)]
pub(super) struct Election {
    /// Work only while being the leader.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(super) leader_elect: bool,
    /// How long others wait for the leader.
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub(super) leader_elect_lease_duration: Duration,
    /// How long the leader tries to stay it.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub(super) leader_elect_renew_deadline: Duration,
    /// The pause between tries.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub(super) leader_elect_retry_period: Duration,
    /// Kind of the object that names the leader.
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    leader_elect_resource_lock: String,
    /// Name of that object; the component's own when not given.
    #[arg(long)]
    pub(super) leader_elect_resource_name: Option<String>,
    /// Its namespace.
    #[arg(long, default_value = "kube-system")]
    pub(super) leader_elect_resource_namespace: String,
}

/// A whole file.
pub(super) fn read(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Go's form of a duration: `1h30m`, `10s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 30s or 1h30m");
    let mut rest = text;
    let mut total = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let units = [
            ("ms", 0.001),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ns", 1e-9),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let unit = units.iter().find(|(unit, _)| tail.starts_with(unit));
        let (unit, seconds) = unit.ok_or_else(wrong)?;
        total += number * seconds;
        rest = &tail[unit.len()..];
    }
    match text.is_empty() {
        true => Err(wrong()),
        false => Duration::try_from_secs_f64(total).map_err(|_| wrong()),
    }
}

/// `key=value` pairs.
pub(crate) fn pairs(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let Some((key, value)) = word.split_once('=') else {
            bail!("{word:?} is not of the form key=value");
        };
        out.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Some {
        #[command(flatten)]
        common: Common,
        /// One.
        #[arg(long)]
        one: Option<String>,
        /// A pause.
        #[arg(long, default_value = "15s", value_parser = duration)]
        pause: Duration,
        /// Words.
        #[arg(long)]
        word: Vec<String>,
        /// A switch.
        #[arg(long)]
        switch: bool,
    }

    #[test]
    fn flags_are_told_as_they_came_to_be() {
        let mut command = Some::command();
        command.build();
        let words = ["some", "-v", "4", "--word=a", "--word=b", "--switch"];
        let matches = command.clone().get_matches_from(words);
        let told: Vec<String> = told(&command, &matches)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            told.join(" "),
            "feature-gates=[] help=false logging-format=text one= pause=15s switch=true v=4 word=[a,b]"
        );
    }

    #[test]
    fn durations_are_those_of_go() {
        let seconds = |text| duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("15s"), Ok(15.0));
        assert_eq!(seconds("1h30m"), Ok(5400.0));
        assert_eq!(seconds("2.5s"), Ok(2.5));
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert_eq!(seconds("8760h0m0s"), Ok(31_536_000.0));
        for wrong in ["", "5", "s", "5x", "-5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
