# Runs a program, and outlives neither it nor its owner by more than a moment.
#
# The owner holds the other end of standard input. Each line of it names a signal for the program. The end of the input,
# whatever brought it about (a panic, Ctrl-C, SIGKILL), kills the program. The exit code is the program's, or 128 and the
# number of the signal that ended it.
#
# usage: sh -c SCRIPT keeper PROGRAM ARGUMENT…
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{
    while read -r signal; do kill -s "$signal" $program; done
    kill -s KILL $program
} <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&- >/dev/null 2>&1
wait $program
status=$?
kill -s KILL $watcher
exit $status
