//! Durability and hostile load: power cuts, crash points, full and failing disks, corrupt indexes, races, many names.
//! Needs root.

mod access_log;
mod broken_disk;
mod broken_index;
mod collection_recovery;
mod crash_points;
mod damaged_blobs;
mod damaged_off;
mod descriptors;
mod directory_errors;
mod dry_run;
mod fairness;
mod full_disk;
mod hanging_disk;
mod large_deletes;
mod last_block;
mod last_page;
mod layout_check;
pub mod lost_names;
mod many_names;
mod memory_faults;
mod model;
mod names_journal;
mod obstacles;
mod power_cut;
mod races;
mod resources;
mod starvation;
mod throttle;
mod uploads;
