# Follows the front page's "As a service", step by step, and writes a line for each: its name, then what was seen.
exec > /mnt/results 2> /mnt/trouble
export PATH=$PATH:/usr/local/bin
units=/etc/systemd/system

see() {
    echo "$1: $(systemctl show tproxy -p ActiveState -p NRestarts -p StatusText | tr '\n' ' ')"
}
main_pid() {
    systemctl show tproxy -p MainPID --value
}
# Waits until this says the same as the next word, for at most 40 s.
until_is() {
    for _ in $(seq 400); do
        [ "$($1)" = "$2" ] && return
        sleep 0.1
    done
    echo "$1 is $($1), not $2"
}
# Clients, until their pipe is closed.
begin_load() {
    coproc LOAD { python3 /mnt/load.py; }
}
end_load() {
    exec {LOAD[1]}>&-
    read -r served <&"${LOAD[0]}"
    echo "$1: $served"
    wait "$LOAD_PID"
}
restarts() {
    systemctl show tproxy -p NRestarts -p ActiveState --value | tr '\n' ' '
}
is_replaced() {
    [ "$(main_pid)" != "$before" ] && [ "$(cat /run/tproxy/pid)" = "$(main_pid)" ] && echo yes || echo no
}
hand_over() {
    before=$(main_pid)
    kill -USR2 "$(cat /run/tproxy/pid)"
    until_is is_replaced yes
}
# How often the log says this.
said() {
    journalctl -u tproxy | grep -c ": $1"
}
reloads() {
    said 'reloaded: '
}
refusals() {
    said 'not reloaded, nothing has changed'
}

coproc SERVE { python3 /mnt/load.py serve; }
read -r _ <&"${SERVE[0]}"

tproxy -f :5432 -t 127.0.0.1:7000 --pid-file /run/tproxy/pid --print unit > $units/tproxy.service
systemctl enable --now tproxy
see start

begin_load
for _ in 1 2 3; do hand_over; done
end_load "hand-over load"
see hand-over

kill -KILL "$(main_pid)"
until_is restarts "1 active "
see killed

printf '[[route]]\nfrom = ":5432"\nto = "127.0.0.1:7000"\n' > /etc/relay.toml
systemctl stop tproxy
see stop
tproxy --config /etc/relay.toml --print unit > $units/tproxy.service
systemctl daemon-reload
systemctl start tproxy
begin_load
for times in 1 2 3 4; do
    systemctl reload tproxy
    until_is reloads $times
done
end_load "reload load"
printf 'nonsense\n' >> /etc/relay.toml
systemctl reload tproxy
until_is refusals 1
see "wrong file"

# The unit's 30 s, made shorter, so that this does not take as long.
mkdir $units/tproxy.service.d
printf '[Service]\nWatchdogSec=3\n' > $units/tproxy.service.d/watchdog.conf
sed -i '$d' /etc/relay.toml
systemctl daemon-reload
systemctl restart tproxy
kill -STOP "$(main_pid)"
until_is restarts "1 active "
see watchdog

systemctl stop tproxy
tproxy -f :5432 -t 127.0.0.1:7000 --pid-file /run/tproxy/pid --print unit > $units/tproxy.service
tproxy -f :5432 -t 127.0.0.1:7000 --print socket > $units/tproxy.socket
systemctl daemon-reload
systemctl enable --now tproxy.socket
see socket
begin_load
for _ in 1 2 3; do systemctl restart tproxy; done
hand_over
end_load "socket load"
see "socket restart"
systemctl stop tproxy.socket tproxy

tproxy -f :5432 -t 127.0.0.1:7000 --print unit-template > $units/tproxy@.service
tproxy -f :5432 -t 127.0.0.1:7000 --print socket-template > $units/tproxy@.socket
systemctl daemon-reload
systemctl enable --now tproxy@1.socket tproxy@2.socket
begin_load
both() {
    systemctl is-active tproxy@1 tproxy@2 | tr '\n' ' '
}
until_is both "active active "
end_load "template load"
echo "template: $(both)"
echo over
systemctl poweroff --force --force
