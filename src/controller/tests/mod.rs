//! The controller in a simulated world: the production code without a runtime, so that nothing waits.

mod accounts;
mod adoption;
mod explained;
mod fairness;
mod faults;
mod immutable;
mod life;
mod memory;
mod noise;
mod obstacles;
mod removals;
mod renames;
mod renew;
mod tokens;
mod world;
