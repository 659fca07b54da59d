//! `--authentication-*`, `--oidc-*`: who knows users elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use access::authentication::{Configuration, Issuer, Mapping};
use anyhow::{Context, anyhow, bail};
use apiserver::TokenWebhook;

use crate::component::flags::{duration, read};

/// The flags.
#[derive(clap::Args)]
#[group(id = "authentication")]
pub(super) struct Flags {
    /// File with an AuthenticationConfiguration: issuers of tokens; changes of it count at once.
    #[arg(long)]
    authentication_config: Option<PathBuf>,
    /// Kubeconfig of the service that reviews tokens nobody here knows.
    #[arg(long)]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the TokenReview that it is asked by.
    #[arg(long, value_parser = ["v1", "v1beta1"], default_value = "v1beta1")]
    authentication_token_webhook_version: String,
    /// How long its answers are good.
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "2m")]
    authentication_token_webhook_cache_ttl: Duration,
    /// The issuer of OpenID tokens that are believed; https.
    #[arg(long, requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// Whom its tokens must be for.
    #[arg(long, requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// Who signs its certificates; the host's own authorities when not given.
    #[arg(long)]
    oidc_ca_file: Option<PathBuf>,
    /// The claim with the user's name.
    #[arg(long, default_value = "sub")]
    oidc_username_claim: String,
    /// What is put before the name; "-" for nothing. The issuer and "#" when not given, except for the claim email.
    #[arg(long, default_value = "")]
    oidc_username_prefix: String,
    /// The claim with the user's groups.
    #[arg(long)]
    oidc_groups_claim: Option<String>,
    /// What is put before each group.
    #[arg(long, default_value = "")]
    oidc_groups_prefix: String,
    /// How tokens may be signed.
    #[arg(long, value_delimiter = ',', default_value = "RS256",
        value_parser = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"])]
    oidc_signing_algs: Vec<String>,
    /// A claim that must have a value: name=value.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    oidc_required_claim: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Who is believed, and the file that says so with its text.
type Chosen = (Configuration, Option<(PathBuf, String)>);

impl Flags {
    /// Issuers whose tokens are believed. Those of `own` issuers are the server's.
    pub(super) fn chosen(&self, own: &[String]) -> anyhow::Result<Chosen> {
        let Some(path) = &self.authentication_config else {
            let configuration = Configuration {
                jwt: self.issuer(own)?.into_iter().collect(),
                anonymous: None,
            };
            return Ok((configuration, None));
        };
        if self.oidc_issuer_url.is_some() {
            bail!("authentication-config file and oidc-* flags are mutually exclusive");
        }
        let text = read(path)?;
        let configuration = Configuration::parse(&text, own).map_err(|why| anyhow!(why));
        let configuration = configuration.with_context(|| {
            let path = path.display();
            format!("failed to load authentication configuration from file {path}")
        })?;
        Ok((configuration, Some((path.clone(), text))))
    }

    fn issuer(&self, own: &[String]) -> anyhow::Result<Option<Issuer>> {
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            return Ok(None);
        };
        if !url.starts_with("https://") {
            bail!("--oidc-issuer-url: URL scheme must be https");
        }
        if own.contains(url) {
            bail!("--oidc-issuer-url: URL must not overlap with disallowed issuers: {own:?}");
        }
        let prefix = match self.oidc_username_prefix.as_str() {
            // A name alone could be anybody's; addresses of mail are believed to be unique.
            "" if self.oidc_username_claim != "email" => format!("{url}#"),
            "-" => String::new(),
            given => given.to_owned(),
        };
        let (claim, client) = (self.oidc_username_claim.clone(), client.clone());
        let mut issuer = Issuer::plain(url.clone(), client, claim, prefix);
        issuer.algorithms.clone_from(&self.oidc_signing_algs);
        issuer.required.clone_from(&self.oidc_required_claim);
        issuer.groups = self.oidc_groups_claim.clone().map(|name| Mapping::Claim {
            name,
            prefix: self.oidc_groups_prefix.clone(),
        });
        if let Some(path) = &self.oidc_ca_file {
            issuer.authorities = read(path)?;
        }
        Ok(Some(issuer))
    }

    /// Who reviews tokens.
    pub(super) fn webhook(&self) -> Option<TokenWebhook> {
        let kubeconfig = self.authentication_token_webhook_config_file.clone()?;
        Some(TokenWebhook {
            kubeconfig,
            version: self.authentication_token_webhook_version.clone(),
            ttl: self.authentication_token_webhook_cache_ttl,
        })
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

    fn chosen(arguments: &[&str]) -> Result<Configuration, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|e| e.to_string())?;
        let own = ["https://own".to_owned()];
        line.flags
            .chosen(&own)
            .map(|c| c.0)
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn an_issuer_is_believed_by_flags() {
        let flags = ["--oidc-issuer-url=https://a", "--oidc-client-id=me"];
        let prefix = |more: &[&str]| match &chosen(&[&flags, more].concat()).expect("good").jwt[0]
            .username
        {
            Mapping::Claim { prefix, .. } => prefix.clone(),
            Mapping::Expression(_) => unreachable!("flags have no expressions"),
        };
        assert_eq!(prefix(&[]), "https://a#");
        assert_eq!(prefix(&["--oidc-username-claim=email"]), "");
        assert_eq!(prefix(&["--oidc-username-prefix=-"]), "");
        assert_eq!(prefix(&["--oidc-username-prefix=o:"]), "o:");
        for wrong in [
            &["--oidc-issuer-url=https://a"][..],
            &["--oidc-issuer-url=http://a", "--oidc-client-id=me"],
            &["--oidc-issuer-url=https://own", "--oidc-client-id=me"],
            &[flags[0], flags[1], "--oidc-signing-algs=none"],
            &[flags[0], flags[1], "--authentication-config=/x"],
        ] {
            assert!(chosen(wrong).is_err(), "{wrong:?}");
        }
        assert!(chosen(&[]).expect("good").jwt.is_empty());
    }
}
