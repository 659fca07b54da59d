//! Flags about servers that pass requests on: this one to others, and others to this one.

use std::path::PathBuf;

use apiserver::{FrontProxy, Identity};

use super::super::flags::read;
use super::identity;

/// How requests are passed on.
#[derive(clap::Args)]
#[group(id = "front_proxy")]
pub(super) struct Flags {
    /// File with the certificate shown to the API servers of other group versions.
    #[arg(long, requires = "proxy_client_key_file")]
    proxy_client_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long, requires = "proxy_client_cert_file")]
    proxy_client_key_file: Option<PathBuf>,
    /// File with the authority of those who may say in headers for whom a request is.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Their common names; any when not given.
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the name of the user.
    #[arg(long, value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// Headers with the UID of the user.
    #[arg(long, value_delimiter = ',')]
    requestheader_uid_headers: Vec<String>,
    /// Headers with groups of the user.
    #[arg(long, value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// What headers with extra of the user begin with.
    #[arg(long, value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
}

impl Flags {
    /// What is shown to other servers.
    pub(super) fn client(&self) -> anyhow::Result<Option<Identity>> {
        let files = (&self.proxy_client_cert_file, &self.proxy_client_key_file);
        let (Some(certificate), Some(key)) = files else {
            return Ok(None);
        };
        identity(certificate, key).map(Some)
    }

    /// Who may pass requests on to this one, and to those that ask this one whom to believe.
    pub(super) fn front_proxy(&self) -> anyhow::Result<Option<FrontProxy>> {
        let Some(authorities) = &self.requestheader_client_ca_file else {
            return Ok(None);
        };
        Ok(Some(FrontProxy {
            authorities: read(authorities)?,
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: self.requestheader_username_headers.clone(),
            uid_headers: self.requestheader_uid_headers.clone(),
            group_headers: self.requestheader_group_headers.clone(),
            extra_headers_prefix: self.requestheader_extra_headers_prefix.clone(),
        }))
    }
}
