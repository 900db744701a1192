//! The simulated world: the production state machine in a model of everything around it.
//!
//! | part | what it is |
//! |---|---|
//! | `choices` | the numbers that a run consists of, and how a failing run is shrunk |
//! | `profile` | what a world consists of, and what may happen in it |
//! | `store` | the API server: objects, versions, and the rules of writes |
//! | `conformance` | that the store does what a real API server does |
//! | `world` | the queue of everything that happens, the processes, AWS, and the actors |
//! | `oracles` | what must hold, whatever happens |
//! | `fleet` | many clusters of one AWS account |
//! | `edges` | the real watches, writes and election on the store, with faults of single requests |

mod choices;
mod configurations;
mod conformance;
mod edges;
mod fleet;
mod oracles;
mod planted;
mod profile;
mod report;
mod runs;
mod small;
mod soak;
mod store;
mod world;
