//! The contract of the decisions.

mod decisions;
mod registries_table;
mod tenancy;
