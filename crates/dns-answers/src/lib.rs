//! dns-answers.
