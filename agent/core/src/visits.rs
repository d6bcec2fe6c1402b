//! Where a thread's visit to a file ends, and what it then teaches of the file's kind.
//!
//! A thread that goes on to another file may come back: merges and interleavings read a piece of each file in
//! turn. So what is known of its walk through the file is kept for a while, and what was taught is taken
//! back when it does.

use crate::catalog::{File, FileId};
use crate::class::{Class, Lesson};
use crate::core::{Active, Core};
use crate::ranges::RangeSet;
use crate::run::Run;
use crate::shape::is_whole;
use crate::units::{MountId, pages_of};

impl Active {
    /// A file that is read whole in no order may never be left: once a pass over it is complete this teaches its kind,
    /// and the next pass begins.
    pub(crate) fn end_pass(&mut self, class: &mut Class, size: u64) {
        if !is_whole(self.fresh, size) {
            return;
        }
        if self.taught.is_none() {
            self.taught = class.finished(&self.read, size);
        }
        (self.read, self.fresh) = (RangeSet::default(), 0);
    }
}

impl Core {
    /// The run, the file and what is read of it, where this thread is the one that reads it.
    fn visited(
        &mut self,
        workload: u32,
        mount: MountId,
        id: FileId,
        tid: u32,
    ) -> Option<(&mut Run, &File, &mut Active)> {
        let active = self.active.get_mut(&id).filter(|active| active.tid == tid)?;
        Some((self.runs.get_mut(&(workload, mount))?, self.catalog.file(id)?, active))
    }

    /// A thread goes on to another file. What it read of this one teaches its kind; where that was not all,
    /// the thread may come back, and its streams are kept for a while.
    pub(crate) fn leave(&mut self, workload: u32, mount: MountId, id: FileId, tid: u32) {
        let Some((run, file, active)) = self.visited(workload, mount, id, tid) else { return };
        if active.taught.is_none()
            && let Some(class) = run.class_mut(&file.name)
        {
            active.streams.end(pages_of(file.size), &active.read, &mut class.bursts);
            active.taught = class.finished(&active.read, file.size);
        }
        let whole = active.taught == Some(Lesson::Whole);
        let Some(thread) = run.threads.get_mut(&tid) else { return };
        if whole {
            thread.done(id);
            self.active.remove(&id);
        } else if let Some(given_up) = thread.leave(id)
            && self.active.get(&given_up).is_some_and(|active| active.tid == tid)
        {
            self.active.remove(&given_up);
        }
    }

    /// A thread is back at a file that it had left: what was taught of the file was said too early.
    pub(crate) fn come_back(&mut self, workload: u32, mount: MountId, id: FileId, tid: u32) {
        let Some((run, file, active)) = self.visited(workload, mount, id, tid) else { return };
        // That a pass over it was complete is true whatever comes.
        if let Some(lesson) = active.taught.take_if(|lesson| *lesson != Lesson::Whole)
            && let Some(class) = run.class_mut(&file.name)
        {
            class.retract(lesson);
        }
    }

    /// A read has come to the end of a file: if it is one that the thread reads in turns with others, and
    /// all of it was read, the visit ends here.
    pub(crate) fn reach_end(&mut self, workload: u32, mount: MountId, id: FileId, tid: u32) {
        let Some((run, file, active)) = self.visited(workload, mount, id, tid) else { return };
        let whole = active.read.pages() >= pages_of(file.size);
        let Some(thread) = run.threads.get_mut(&tid).filter(|thread| whole && thread.has_left(id)) else {
            return;
        };
        thread.done(id);
        if let Some(class) = run.class_mut(&file.name) {
            class.finished(&active.read, file.size);
        }
        self.active.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PAGE;

    #[test]
    fn a_pass_over_a_file_teaches_once_and_the_next_begins() {
        let (mut active, mut class) = (Active::default(), Class::default());
        let size = 100 * PAGE;
        active.fresh += active.read.insert(&(0..89));
        active.end_pass(&mut class, size);
        assert_eq!((class.whole, active.taught, active.fresh), (0, None, 89), "a tenth of it is missing");
        for _ in 0..2 {
            active.fresh += active.read.insert(&(0..90));
            active.end_pass(&mut class, size);
            assert_eq!((class.whole, active.taught), (1, Some(Lesson::Whole)));
            assert_eq!((active.fresh, active.read.pages()), (0, 0));
        }
    }
}
