# Outlives the process that owns a broker by the moment it takes to clean up.
#
# Arguments: the node's folder, its mark (NAME=value in the environment of all its processes), and the container engine
# and container name, if it runs in one. Standard input says what runs: "PID START" (START is the process's start time,
# so that a reused number is not mistaken for it), "0 0" for nothing, "end" once everything is gone. The owner holds the
# only writing end: end of file without "end" means that it died.
folder=$1 mark=$2 engine=$3 container=$4
pid=0 start=0
while read -r first second; do
    if [ "$first" = end ]; then exit 0; fi
    pid=$first start=$second
done

descendants() {
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do descendants "$child"; done
    echo "$1"
}
marked() {
    for file in /proc/[0-9]*/environ; do
        if grep -qzxF "$mark" "$file" 2>/dev/null; then
            file=${file#/proc/}
            echo "${file%/environ}"
        fi
    done
}
if [ -n "$container" ]; then "$engine" rm -f "$container" >/dev/null 2>&1; fi
if [ "$pid" != 0 ] && [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)" = "$start" ]; then
    # Descendants first: once the leader is gone, nothing tells whose they were.
    kill -9 $(descendants "$pid") 2>/dev/null
    kill -9 -- "-$pid" 2>/dev/null
fi
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rest=$(marked)
    if [ -z "$rest" ]; then break; fi
    kill -9 $rest 2>/dev/null
    sleep 0.1
done
rm -rf -- "$folder"
