//! What `hawser check` says about configurations: the words, the places, all problems at once.

mod host;
mod ike;
mod protected;
mod support;
mod words;
