//! Short ways to read typed views, in which nearly every field is an `Option`: absent reads as empty.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;

/// A string that may be absent; absent reads as empty.
pub trait OrEmpty {
    /// The text.
    fn text(&self) -> &str;
}

impl OrEmpty for Option<String> {
    fn text(&self) -> &str {
        self.as_deref().unwrap_or("")
    }
}

/// A list that may be absent; absent reads as empty.
pub trait Items<T> {
    /// The elements.
    fn items(&self) -> &[T];
}

impl<T> Items<T> for Option<Vec<T>> {
    fn items(&self) -> &[T] {
        self.as_deref().unwrap_or_default()
    }
}

/// A boolean that may be absent; absent reads as false.
pub trait Yes {
    /// Set and true.
    fn yes(&self) -> bool;
}

impl Yes for Option<bool> {
    fn yes(&self) -> bool {
        self.unwrap_or(false)
    }
}

/// Sets `slot` when it is absent or empty, as defaults do for strings.
pub fn fill(slot: &mut Option<String>, value: &str) {
    if slot.text().is_empty() {
        *slot = Some(value.to_owned());
    }
}

/// Sets `slot` when it is absent.
pub fn fill_with<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

/// The number behind a quantity's text; `None` when the text is no quantity.
pub fn quantity(text: &Text) -> Option<Quantity> {
    text.0.parse().ok()
}

/// `a=1,b=2`, or `<none>`, as columns show label maps.
pub fn format_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs: Vec<String> = labels
        .into_iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}
