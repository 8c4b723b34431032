# shellcheck shell=sh
# For people at a prompt alone: what runs by itself, Ansible among it, keeps the distribution's umask and no time limit.
case $- in
*i*)
    umask 027
    TMOUT=1800
    readonly TMOUT
    export TMOUT
    ;;
esac
