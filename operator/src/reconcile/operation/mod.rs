//! DataLoad, DataMigrate, DataBackup and DataProcess: when they run ([`timing`], pure), and who does the work: agents
//! ([`load`]) or a Job ([`job`]), which for the two in the middle runs the worker ([`task`]).

pub mod events;

pub mod timing;

pub mod pod;

pub mod reach;

pub mod task;

pub mod job;

pub mod load;

pub mod asked;

pub mod reconcile;

pub mod leftovers;

#[cfg(test)]
mod job_tests;

#[cfg(test)]
mod load_tests;

#[cfg(test)]
mod reach_tests;

#[cfg(test)]
mod task_tests;

#[cfg(test)]
mod tests;
