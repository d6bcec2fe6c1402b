//! DataLoad, DataMigrate, DataBackup and DataProcess: when they run ([`timing`], pure), and who does the work: agents
//! ([`load`]) or a Job ([`job`]).

pub mod kind;

pub mod timing;

pub mod job;

pub mod load;

pub mod reconcile;

#[cfg(test)]
mod tests;
