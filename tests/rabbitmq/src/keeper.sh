# Keeps one run of a RabbitMQ node and of its epmd, and outlives its owner by no more than a moment.
#
# The owner holds the other end of standard input. A line `stop` shuts the node down in order, a line `kill` kills it.
# The end of the input, whatever brought it about (Ctrl-C, SIGKILL, a crash, an exit without cleaning up), kills it and
# removes its folder. This script ends when the node has ended, for whatever reason.
#
# usage: sh -c SCRIPT keeper FOLDER EPMD SERVER
folder=$1 epmd=$2 server=$3
abandoned=$folder/abandoned
rm -f "$abandoned"
exec 3<&0 </dev/null

# In the foreground, or it would stay behind. The node starts one by itself only where none answers.
"$epmd" -port "$ERL_EPMD_PORT" -address 127.0.0.1 >/dev/null 2>&1 3<&- &
epmd_id=$!
"$server" 3<&- &
server_id=$!
# The shell tells of killed jobs, and nobody may be there any more to read it: the signal for that would end it too early.
exec >/dev/null 2>&1

{
    while read -r command; do
        case $command in
        stop) kill -TERM $server_id ;;
        kill) kill -KILL $server_id ;;
        esac
    done
    : >"$abandoned"
    kill -KILL $server_id
} <&3 &
watcher_id=$!
exec 3<&-

wait $server_id
status=$?
kill -KILL $epmd_id
wait $epmd_id
if [ -e "$abandoned" ]; then
    rm -rf "$folder" "$folder.lock"
fi
kill -KILL $watcher_id
exit $status
