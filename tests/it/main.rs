//! End-to-end tests: one binary, one file for each feature. The harness is the library beside them.

mod demo;
mod drain;
mod gatekeeping;
mod guests;
mod http;
mod jwt;
mod limits;
mod operations;
mod plugins;
mod problems;
mod reload;
mod swap;
mod upstreams;
