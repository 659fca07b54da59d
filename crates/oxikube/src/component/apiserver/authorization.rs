//! `--authorization-*`: who is asked what may be done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::authorization::abac::Policies;
use access::authorization::{Conditions, Configuration, FailurePolicy, Link, Webhook};
use anyhow::{Context, bail};

use crate::component::flags::{duration, read};

/// The flags.
#[derive(clap::Args)]
#[group(id = "authorization")]
pub(super) struct Flags {
    /// Who decides, in order: AlwaysAllow, AlwaysDeny, ABAC, Webhook, RBAC, Node. AlwaysAllow when neither this nor
    /// --authorization-config is given.
    #[arg(long, value_delimiter = ',')]
    authorization_mode: Vec<String>,
    /// File with a policy a line, for mode ABAC.
    #[arg(long)]
    authorization_policy_file: Option<PathBuf>,
    /// Kubeconfig of the service that is asked in mode Webhook.
    #[arg(long)]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the SubjectAccessReview that it is asked by.
    #[arg(long, value_parser = ["v1", "v1beta1"])]
    authorization_webhook_version: Option<String>,
    /// How long its "allowed" is good for.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    authorization_webhook_cache_authorized_ttl: Option<Duration>,
    /// How long anything else it says is good for.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    authorization_webhook_cache_unauthorized_ttl: Option<Duration>,
    /// File with an AuthorizationConfiguration, instead of the other flags; changes of it count at once.
    #[arg(long)]
    authorization_config: Option<PathBuf>,
}

impl Flags {
    /// The authorizers, and the file that they follow with its text.
    pub(super) fn chosen(&self) -> anyhow::Result<(Configuration, Option<(PathBuf, String)>)> {
        let Some(path) = &self.authorization_config else {
            let configuration = Configuration {
                links: self.links()?,
            };
            return Ok((configuration, None));
        };
        if self.has_others() {
            bail!(
                "--authorization-config can not be specified when --authorization-mode or \
                 --authorization-webhook-* flags are defined"
            );
        }
        let text = read(path)?;
        let configuration = Configuration::parse(&text).map_err(anyhow::Error::msg);
        let configuration =
            configuration.with_context(|| format!("cannot use {}", path.display()))?;
        Ok((configuration, Some((path.clone(), text))))
    }

    fn has_others(&self) -> bool {
        !self.authorization_mode.is_empty()
            || self.authorization_policy_file.is_some()
            || self.authorization_webhook_config_file.is_some()
            || self.authorization_webhook_version.is_some()
            || self.authorization_webhook_cache_authorized_ttl.is_some()
            || self.authorization_webhook_cache_unauthorized_ttl.is_some()
    }

    fn links(&self) -> anyhow::Result<Vec<Link>> {
        let modes = &self.authorization_mode;
        let webhook = modes.iter().any(|mode| mode == "Webhook");
        match (&self.authorization_webhook_config_file, webhook) {
            (Some(_), false) => {
                bail!("cannot specify --authorization-webhook-config-file without mode Webhook")
            }
            (None, true) => {
                bail!("authorization-mode Webhook's authorization config file not passed")
            }
            _ => {}
        }
        let abac = modes.iter().any(|mode| mode == "ABAC");
        match (&self.authorization_policy_file, abac) {
            (Some(_), false) => {
                bail!("cannot specify --authorization-policy-file without mode ABAC")
            }
            (None, true) => bail!("authorization-mode ABAC's authorization policy file not passed"),
            _ => {}
        }
        if modes.is_empty() {
            return Ok(vec![Link::AlwaysAllow]);
        }
        let mut links = Vec::new();
        for (index, mode) in modes.iter().enumerate() {
            if modes[..index].contains(mode) {
                bail!("authorization-mode {modes:?} has mode specified more than once");
            }
            links.push(match mode.as_str() {
                "Node" => Link::Node,
                "RBAC" => Link::Rbac,
                "AlwaysAllow" => Link::AlwaysAllow,
                "AlwaysDeny" => Link::AlwaysDeny,
                "ABAC" => Link::Abac(Arc::new(self.policies()?)),
                "Webhook" => Link::Webhook(Box::new(self.webhook())),
                other => bail!("authorization-mode {other:?} is not a valid mode"),
            });
        }
        Ok(links)
    }

    fn policies(&self) -> anyhow::Result<Policies> {
        let path = self.authorization_policy_file.as_deref();
        let path = path.unwrap_or(Path::new(""));
        Ok(Policies::parse(&read(path)?, &path.display().to_string())?)
    }

    fn webhook(&self) -> Webhook {
        let seconds =
            |given: Option<Duration>, unsaid| given.unwrap_or(Duration::from_secs(unsaid));
        let version = self.authorization_webhook_version.as_deref();
        let file = self.authorization_webhook_config_file.as_ref();
        Webhook {
            name: "default".to_owned(),
            authorized_ttl: seconds(self.authorization_webhook_cache_authorized_ttl, 300),
            unauthorized_ttl: seconds(self.authorization_webhook_cache_unauthorized_ttl, 30),
            timeout: Duration::from_secs(30),
            version: version.unwrap_or("v1beta1").to_owned(),
            failure_policy: FailurePolicy::NoOpinion,
            kubeconfig: file.map(|path| path.display().to_string()),
            conditions: Conditions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn chosen(arguments: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|e| e.to_string())?;
        let (configuration, _) = line.flags.chosen().map_err(|e| e.to_string())?;
        let names = configuration.links.iter().map(|link| match link {
            Link::Webhook(webhook) => format!("webhook {}", webhook.version),
            other => format!("{other:?}"),
        });
        Ok(names.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn modes_are_asked_in_the_order_given() {
        assert_eq!(chosen(&[]).as_deref(), Ok("AlwaysAllow"));
        let all = "--authorization-mode=RBAC,Webhook,Node";
        let file = "--authorization-webhook-config-file=/x";
        assert_eq!(
            chosen(&[all, file]).as_deref(),
            Ok("Rbac webhook v1beta1 Node")
        );
        for wrong in [
            &[all][..],
            &[file],
            &["--authorization-mode=RBAC,RBAC"],
            &["--authorization-mode=Nobody"],
            &["--authorization-mode=ABAC"],
            &[
                "--authorization-mode=RBAC",
                "--authorization-policy-file=/x",
            ],
            &[
                "--authorization-mode=ABAC",
                "--authorization-policy-file=/nowhere",
            ],
            &["--authorization-config=/x", all],
        ] {
            assert!(chosen(wrong).is_err(), "{wrong:?}");
        }
    }
}
