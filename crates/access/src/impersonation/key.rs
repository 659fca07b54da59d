//! What a successful attempt is remembered under: a digest, so that nobody's long names fill the memory.

use ring::digest::{Context, SHA256};

use crate::{Attributes, User};

/// A digest of who acts as whom in which way, and of the request where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    pub(super) fn of(
        mode: &str,
        wanted: &User,
        caller: &User,
        request: Option<&Attributes>,
    ) -> Self {
        let mut digest = Digest(Context::new(&SHA256));
        digest.text(mode);
        digest.user(wanted);
        digest.user(caller);
        if let Some(request) = request {
            digest.request(request);
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.0.finish().as_ref());
        Self(key)
    }
}

/// Every text is preceded by its length, so that no two sequences of texts look alike.
struct Digest(Context);

impl Digest {
    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    fn user(&mut self, user: &User) {
        self.text(&user.name);
        self.text(&user.uid);
        self.texts(&user.groups);
        self.count(user.extra.len());
        for (key, values) in &user.extra {
            self.text(key);
            self.texts(values);
        }
    }

    fn request(&mut self, request: &Attributes) {
        for text in [
            &request.verb,
            &request.namespace,
            &request.resource,
            &request.subresource,
            &request.name,
            &request.api_group,
            &request.api_version,
            &request.path,
        ] {
            self.text(text);
        }
        self.count(usize::from(request.is_resource_request));
        self.count(request.field_selector.len());
        for requirement in &request.field_selector {
            self.text(&requirement.field);
            self.count(usize::from(requirement.equals));
            self.text(&requirement.value);
        }
        let labels = request.label_selector.as_ref().map(ToString::to_string);
        self.text(&labels.unwrap_or_default());
    }
}
