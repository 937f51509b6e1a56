/// Calls a macro with the names of all operations. The plugin makes an arm for each, and the tests of the engine a test: what is
/// named here and lacks either does not compile.
macro_rules! for_each_operation {
    ($callback:ident) => {
        $callback! {
            echo
            fail_transiently
            fail_fatally
            fail_at_length
            refuse_config
            refuse_element
            spin
            allocate
            recurse
            panic
            panic_unannounced
            confess_at_length
            confess_and_go_on
            exit
            abort
            return_bytes
            return_too_few
            return_too_many
            decreasing_offsets
            offsets_beyond_the_end
            fail_behind_a_gap
            fail_beyond_the_end
            malformed_text
            print
            print_and_abort
            log
            log_at_length
            sleep
            look_around
            look_outside
            count_calls
            ask_context
            report_progress
            await_cancellation
            panic_within_panic
            grow_page_by_page
            return_offsets
            print_at_length
            deny_itself
            draw_random
            read_clock
            compute_nan
        }
    };
}
