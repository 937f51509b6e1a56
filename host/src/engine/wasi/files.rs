//! `wasi:filesystem` for directories that were granted: to read from, and without waiting.
//!
//! What is within a directory, and that nothing else is, is wasmtime-wasi's business: it follows neither `..` nor a symbolic
//! link out of it. Here everything that would change something is refused before it gets there, and so is opening what could
//! make the thread wait for somebody: pipes, sockets and devices. Without a grant there is no directory, and so nothing to open.

use futures::FutureExt;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator,
        bindings::{
            filesystem::types::{self as async_types, ErrorCode, HostDescriptor, HostDirectoryEntryStream},
            sync::filesystem::types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, Filesize,
                MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
    },
};

use crate::engine::{error::Interruption, instance::State};

/// The part of WASI's state that these interfaces use.
pub(super) struct Files<'a>(WasiFilesystemCtxView<'a>);

impl Files<'_> {
    pub(super) fn of(state: &mut State) -> Files<'_> {
        Files(state.filesystem())
    }
}

impl HasData for Files<'static> {
    type Data<'a> = Files<'a>;
}

/// The result of an operation on a file: the context is set up to do it on this thread.
fn at_once<T>(future: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    future.now_or_never().ok_or_else(|| FsError::trap(Interruption::Stuck))?
}

/// The answer to everything that would change something.
fn read_only<T>() -> FsResult<T> {
    Err(ErrorCode::ReadOnly.into())
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        types::Host::convert_error_code(&mut self.0, error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.0, error)
    }
}

impl types::HostDescriptor for Files<'_> {
    fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        if open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) || flags.contains(DescriptorFlags::WRITE) {
            return read_only();
        }
        let again = Resource::new_borrow(folder.rep());
        let there = at_once(HostDescriptor::stat_at(&mut self.0, again, path_flags.into(), path.clone()))?;
        match there.type_ {
            async_types::DescriptorType::RegularFile | async_types::DescriptorType::Directory => at_once(
                HostDescriptor::open_at(&mut self.0, folder, path_flags.into(), path, open.into(), flags.into()),
            ),
            async_types::DescriptorType::SymbolicLink => Err(ErrorCode::Loop.into()),
            _ => Err(ErrorCode::NotPermitted.into()),
        }
    }

    fn read(&mut self, file: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        at_once(HostDescriptor::read(&mut self.0, file, len, offset))
    }

    fn read_via_stream(&mut self, file: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        HostDescriptor::read_via_stream(&mut self.0, file, offset)
    }

    fn read_directory(&mut self, folder: Resource<Descriptor>) -> FsResult<Resource<ReaddirIterator>> {
        at_once(HostDescriptor::read_directory(&mut self.0, folder))
    }

    fn readlink_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<String> {
        at_once(HostDescriptor::readlink_at(&mut self.0, folder, path))
    }

    fn stat(&mut self, file: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(at_once(HostDescriptor::stat(&mut self.0, file))?.into())
    }

    fn stat_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(at_once(HostDescriptor::stat_at(&mut self.0, folder, path_flags.into(), path))?.into())
    }

    fn metadata_hash(&mut self, file: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(at_once(HostDescriptor::metadata_hash(&mut self.0, file))?.into())
    }

    fn metadata_hash_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(at_once(HostDescriptor::metadata_hash_at(&mut self.0, folder, path_flags.into(), path))?.into())
    }

    fn is_same_object(&mut self, one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool> {
        HostDescriptor::is_same_object(&mut self.0, one, other).now_or_never().ok_or(Interruption::Stuck)?
    }

    fn get_flags(&mut self, file: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(at_once(HostDescriptor::get_flags(&mut self.0, file))?.into())
    }

    fn get_type(&mut self, file: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(at_once(HostDescriptor::get_type(&mut self.0, file))?.into())
    }

    fn drop(&mut self, file: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.0, file)
    }

    /// A hint that only this call would profit from, and that could keep the disk busy.
    fn advise(&mut self, _: Resource<Descriptor>, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        Ok(())
    }

    /// There is nothing that was written.
    fn sync(&mut self, _: Resource<Descriptor>) -> FsResult<()> {
        Ok(())
    }

    fn sync_data(&mut self, _: Resource<Descriptor>) -> FsResult<()> {
        Ok(())
    }

    fn write(&mut self, _: Resource<Descriptor>, _: Vec<u8>, _: Filesize) -> FsResult<Filesize> {
        read_only()
    }

    fn write_via_stream(&mut self, _: Resource<Descriptor>, _: Filesize) -> FsResult<Resource<DynOutputStream>> {
        read_only()
    }

    fn append_via_stream(&mut self, _: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        read_only()
    }

    fn set_size(&mut self, _: Resource<Descriptor>, _: Filesize) -> FsResult<()> {
        read_only()
    }

    fn set_times(&mut self, _: Resource<Descriptor>, _: NewTimestamp, _: NewTimestamp) -> FsResult<()> {
        read_only()
    }

    fn set_times_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: NewTimestamp,
        _: NewTimestamp,
    ) -> FsResult<()> {
        read_only()
    }

    fn create_directory_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    fn remove_directory_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    fn link_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        read_only()
    }

    fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        read_only()
    }

    fn rename_at(&mut self, _: Resource<Descriptor>, _: String, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }

    fn unlink_file_at(&mut self, _: Resource<Descriptor>, _: String) -> FsResult<()> {
        read_only()
    }
}

impl types::HostDirectoryEntryStream for Files<'_> {
    fn read_directory_entry(&mut self, entries: Resource<ReaddirIterator>) -> FsResult<Option<DirectoryEntry>> {
        Ok(at_once(HostDirectoryEntryStream::read_directory_entry(&mut self.0, entries))?.map(Into::into))
    }

    fn drop(&mut self, entries: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.0, entries)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmtime::component::ResourceTable;
    use wasmtime_wasi::{
        FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
        p2::{
            OutputStream, StreamError,
            bindings::{
                filesystem::preopens,
                sync::io::{
                    poll,
                    streams::{self, HostInputStream as _, HostOutputStream as _},
                },
            },
            pipe::MemoryOutputPipe,
        },
    };

    use super::{
        super::{clock::Clock, io::Io},
        types::HostDescriptor as _,
        *,
    };

    struct Guest {
        ctx: WasiCtx,
        table: ResourceTable,
        clock: Arc<Clock>,
    }

    impl WasiView for Guest {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
        }
    }

    impl Guest {
        fn io(&mut self) -> Io<'_> {
            Io { table: &mut self.table, clock: &self.clock }
        }

        /// A stream of the file `text` in a directory that is granted.
        fn stream(&mut self) -> Resource<DynInputStream> {
            let folders = preopens::Host::get_directories(&mut self.filesystem()).unwrap();
            let folder = folders.into_iter().next().unwrap().0;
            let mut files = Files(self.filesystem());
            let (none, read) = (PathFlags::empty(), DescriptorFlags::READ);
            let file = files.open_at(folder, none, "text".to_owned(), OpenFlags::empty(), read).unwrap();
            files.read_via_stream(file, 0).unwrap()
        }
    }

    fn check(test: impl FnOnce(&mut Guest)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "some text").unwrap();
        let mut ctx = WasiCtxBuilder::new();
        ctx.allow_blocking_current_thread(true).preopened_dir(folder.path(), "/data", FsPerms::ReadOnly).unwrap();
        test(&mut Guest { ctx: ctx.build(), table: ResourceTable::new(), clock: Arc::default() });
    }

    fn borrowed<T: 'static>(resource: &Resource<T>) -> Resource<T> {
        Resource::new_borrow(resource.rep())
    }

    #[test]
    fn who_waits_for_a_file_finds_it_ready_and_who_does_not_wait_reads_it_as_well() {
        check(|guest| {
            let stream = guest.stream();
            let mut io = guest.io();
            let ready = streams::HostInputStream::subscribe(&mut io, borrowed(&stream)).unwrap();
            assert_eq!(poll::Host::poll(&mut io, vec![ready]).unwrap(), [0]);
            assert_eq!(io.read(borrowed(&stream), 0).unwrap(), b"");
            assert_eq!(io.read(borrowed(&stream), 3).unwrap(), b"som");
            assert_eq!(io.skip(borrowed(&stream), 0).unwrap(), 0);
            assert_eq!(io.skip(borrowed(&stream), 2).unwrap(), 2);
            assert_eq!(io.blocking_read(borrowed(&stream), 9).unwrap(), b"text");
            assert!(matches!(io.read(borrowed(&stream), 9), Err(StreamError::Closed)));
            streams::HostInputStream::drop(&mut io, stream).unwrap();
        });
    }

    #[test]
    fn a_file_is_spliced_to_where_a_guest_writes() {
        check(|guest| {
            let stream = guest.stream();
            let pipe = MemoryOutputPipe::new(1024);
            let output: DynOutputStream = Box::new(pipe.clone()) as Box<dyn OutputStream>;
            let mut io = guest.io();
            let output = io.table.push(output).unwrap();
            assert_eq!(io.splice(borrowed(&output), borrowed(&stream), 4).unwrap(), 4);
            assert_eq!(io.blocking_splice(borrowed(&output), borrowed(&stream), 100).unwrap(), 5);
            assert_eq!(pipe.contents(), "some text");
            assert!(matches!(io.splice(output, stream, 1), Err(StreamError::Closed)));
        });
    }
}
