//! End-to-end tests: the binary, driven as a user drives it.
//!
//! Each test has a state directory of its own and they run side by side; the few that look at the
//! whole host hold [`binary::alone`] while they do. What a host cannot run is said by name on
//! standard error, see [`host`].

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod attack;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bandwidth;
#[cfg(test)]
mod between_runs;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod build_caches;
#[cfg(test)]
mod build_image;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod check;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod dockerfile_images;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod exec_output;
#[cfg(test)]
mod exhaustion;
#[cfg(test)]
mod fetched;
#[cfg(test)]
mod handed_on;
#[cfg(test)]
mod host;
#[cfg(test)]
mod host_image;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod image;
#[cfg(test)]
mod image_store;
#[cfg(test)]
mod images;
#[cfg(test)]
mod images_section;
#[cfg(test)]
mod interrupt;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod job_keys;
#[cfg(test)]
mod kept_states;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod network;
#[cfg(test)]
mod network_attacks;
#[cfg(test)]
mod network_learn;
#[cfg(test)]
mod network_traces;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod residue;
#[cfg(test)]
mod run;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod session;
#[cfg(test)]
mod shared_machine;
#[cfg(test)]
mod system_calls;
#[cfg(test)]
mod teardown;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod world;
#[cfg(test)]
mod written_layers;
