//! The container image of `ecr-pull-secrets`, written without Docker.
//!
//! | module | what it does |
//! |---|---|
//! | [`bundle`] | the roots of Mozilla as PEM |
//! | [`program`] | looks whether a program can run in an image that has nothing else |
//! | [`layer`] | a tar archive of given files, the same for the same files |
//! | [`documents`] | the JSON documents of the OCI image specification that are needed here |
//! | [`archive`] | puts these together |
//!
//! Everything is a function of its arguments: no clock, no owner or time of a file, no order of a hash map. So
//! the same program gives the same digest.

pub mod archive;
pub mod bundle;
pub mod documents;
pub mod layer;
pub mod program;
