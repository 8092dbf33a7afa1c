#!/bin/sh
# Stands in for nvidia-smi where vLLM runs on a CPU: one GPU that nobody uses.
# It answers the two queries that the provider makes, in the order of their fields.
case $1 in
--query-gpu=*)
	fields=${1#--query-gpu=}
	line=
	while [ -n "$fields" ]; do
		field=${fields%%,*}
		case $fields in *,*) fields=${fields#*,} ;; *) fields= ;; esac
		case $field in
		index) value=0 ;;
		uuid) value=GPU-00000000-0000-0000-0000-000000000000 ;;
		memory.total) value=24576 ;;
		memory.used) value=1 ;;
		driver_version) value=580.95.05 ;;
		name) value='CPU in place of a GPU' ;;
		compute_cap) value=8.9 ;;
		temperature.gpu) value=30 ;;
		*) echo "Field \"$field\" is not a valid field to query."; exit 2 ;;
		esac
		line=${line:+$line, }$value
	done
	echo "$line"
	;;
--query-compute-apps=*) ;;
*) echo "Invalid combination of input arguments."; exit 2 ;;
esac
