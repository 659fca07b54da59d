//! What a server says of itself: discovery of groups, its version, and the keys of its tokens.

use super::model::{Content, Media, Operation};
use super::operations::{base_path, group_tag, upper_first};

/// The paths, beside those of groups, that have a document of version 3 of their own.
pub const PATHS: [&str; 5] = [
    ".well-known/openid-configuration",
    "api",
    "apis",
    "openid/v1/jwks",
    "version",
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

/// The operation at a path, and the path as documents write it.
pub(super) fn at(path: &str) -> Option<(String, Operation)> {
    let meta = |kind: &str| Content::Object(format!("{META}.{kind}"));
    let said = match path {
        "api" => (
            "getCoreAPIVersions",
            "core",
            "get available API versions",
            meta("APIVersions"),
        ),
        "apis" => (
            "getAPIVersions",
            "apis",
            "get available API versions",
            meta("APIGroupList"),
        ),
        "version" => (
            "getCodeVersion",
            "version",
            "get the version information for this server",
            Content::Object(VERSION.to_owned()),
        ),
        ".well-known/openid-configuration" => (
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            Content::Text,
        ),
        "openid/v1/jwks" => (
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            Content::Text,
        ),
        other => return of_group(other.strip_prefix("apis/")?),
    };
    let (id, tag, description, answer) = said;
    let media = match path {
        "openid/v1/jwks" => Media::Keys,
        "version" | ".well-known/openid-configuration" => Media::Json,
        _ => Media::Object,
    };
    let mut operation = discovery(id, tag, description, answer);
    operation.media = media;
    Some((format!("/{path}/"), operation))
}

fn of_group(group: &str) -> Option<(String, Operation)> {
    if group.is_empty() || group.contains('/') {
        return None;
    }
    let tag = group_tag(group);
    let operation = discovery(
        &format!("get{}APIGroup", upper_first(&tag)),
        &tag,
        "get information of a group",
        Content::Object(format!("{META}.APIGroup")),
    );
    Some((base_path(group, ""), operation))
}

/// A question of no kind.
pub(super) fn discovery(id: &str, tag: &str, description: &str, answer: Content) -> Operation {
    Operation {
        method: "get",
        id: id.to_owned(),
        description: description.to_owned(),
        tag: tag.to_owned(),
        action: "",
        gvk: None,
        parameters: Vec::new(),
        body: None,
        patch: &[],
        answers: vec![(200, answer)],
        media: Media::Object,
    }
}
