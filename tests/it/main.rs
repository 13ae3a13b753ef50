//! End-to-end tests: one binary, one file for each feature. The harness is the library beside them.

mod cache;
mod cache_purge;
mod cache_stage;
mod cache_suite;
mod capabilities;
mod configuration;
mod crashes;
mod demo;
mod drain;
mod faults;
mod functions;
mod gatekeeping;
mod guests;
mod http;
mod integrations;
mod jwt;
mod limits;
mod link;
mod operations;
mod plugins;
mod problems;
mod reload;
mod sdk;
mod swap;
mod sync;
mod upstreams;
